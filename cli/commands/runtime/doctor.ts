import { Base, engineFlags } from "../../base.js";

export default class Doctor extends Base {
  static override description =
    "Opens the library that training would use and says what it can do; with CUDA, which of its libraries are found and what is missing.";
  static override examples = [
    "<%= config.bin %> runtime doctor",
    "<%= config.bin %> runtime doctor --device cuda",
    "<%= config.bin %> runtime doctor --library ./libonnxruntime.so.1 --json",
  ];
  static override flags = {
    library: engineFlags.library,
    device: engineFlags.device,
    "device-id": engineFlags["device-id"],
    "cuda-libraries": engineFlags["cuda-libraries"],
  };

  async run() {
    const { flags } = await this.parse(Doctor);
    const { cudaOptions, libraryWithProgress } = await import("../../engine.js");
    const { installedRuntimes, trainingLibrary } = await import("../../../src/runtimes.js");
    const { openEngine } = await import("../../../src/engines/native/index.js");
    const { cudaReport } = await import("../../../src/engines/native/cuda.js");
    const withCuda = flags.device !== "cpu" && installedRuntimes().some((r) => r.device === "cuda");
    const library = await libraryWithProgress(
      trainingLibrary,
      { library: flags.library, device: withCuda ? "cuda" : "cpu" },
      this.say,
    );
    const engine = openEngine({ library, name: "portable" });
    const { version, training, providers } = engine;
    const cuda =
      flags.device === "cuda" || (flags.device === "auto" && providers.includes("CUDA"))
        ? cudaReport(providers, cudaOptions(flags))
        : undefined;
    this.log(
      `${library}\nONNX Runtime ${version}, training API: ${training ? "yes" : "no"}, providers: ${providers.join(", ")}`,
    );
    if (cuda) this.log([...cuda.libraries, ...cuda.obstacles].join("\n"));
    if (!training)
      this.error(`${library} has no training API. Install one that has: diptych runtime install`, { exit: 1 });
    if (flags.device === "cuda" && cuda!.obstacles.length) process.exitCode = 1;
    return { library, version, training, providers, ...(cuda && { cuda }) };
  }
}
