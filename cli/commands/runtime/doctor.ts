import { Base, engineFlags } from "../../base.js";

export default class Doctor extends Base {
  static override description = "Opens the library that training would use and says what it can do.";
  static override examples = [
    "<%= config.bin %> runtime doctor",
    "<%= config.bin %> runtime doctor --library ./libonnxruntime.so.1 --json",
  ];
  static override flags = { library: engineFlags.library };

  async run() {
    const { flags } = await this.parse(Doctor);
    const { libraryWithProgress } = await import("../../engine.js");
    const { openEngine } = await import("../../../src/engines/native/index.js");
    const library = await libraryWithProgress(flags.library, this.say);
    const engine = openEngine({ library, name: "portable" });
    const found = { library, version: engine.version, training: engine.training, providers: engine.providers };
    this.log(
      `${library}\nONNX Runtime ${found.version}, training API: ${found.training ? "yes" : "no"}, providers: ${found.providers.join(", ")}`,
    );
    if (!found.training)
      this.error(`${library} has no training API. Install one that has: diptych runtime install`, { exit: 1 });
    return found;
  }
}
