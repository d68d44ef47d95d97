/** Which engine a command runs on: the card where one is asked for or ready, the training library where it can be had, else the portable one, said once. */
import cliProgress from "cli-progress";
import { cudaObstacles } from "../src/engines/native/cuda.js";
import { openEngine, type CudaOptions, type NativeEngine } from "../src/engines/native/index.js";
import { installedRuntimes, portableLibrary, trainingLibrary, type RuntimeOptions } from "../src/runtimes.js";

export interface EngineFlags {
  engine?: string;
  device?: string;
  "device-id"?: number;
  "cuda-libraries"?: string;
  "cuda-graphs"?: boolean;
  library?: string;
  threads?: number;
}

/** Finds or installs a library, with a bar on a terminal and plain lines elsewhere. */
export async function libraryWithProgress(
  find: (options: RuntimeOptions) => Promise<string>,
  options: Pick<RuntimeOptions, "library" | "device">,
  say: (line: string) => void,
): Promise<string> {
  const bar = process.stderr.isTTY
    ? new cliProgress.SingleBar({ format: "{bar} {mb} MB", clearOnComplete: true })
    : undefined;
  let started = false;
  try {
    return await find({
      ...options,
      announce: say,
      progress: (bytes) => {
        if (!started) bar?.start(options.device === "cuda" ? 165e6 : 16e6, 0, { mb: 0 });
        started = true;
        bar?.update(bytes, { mb: (bytes / 1e6).toFixed(1) });
      },
    });
  } finally {
    if (started) bar?.stop();
  }
}

/** An engine as --engine, --device, --device-id, --cuda-libraries, --library and --threads ask for. */
export async function engineFor(flags: EngineFlags, say: (line: string) => void): Promise<NativeEngine> {
  const { device = "auto", engine = "auto", library } = flags;
  if (flags["cuda-graphs"] && !(device === "cuda" && engine === "portable"))
    throw new Error("--cuda-graphs captures the step graph on a card: give --device cuda --engine portable with it.");
  if (device === "cuda") return cudaEngine(flags, cudaObstacles(cudaOptions(flags)), say);
  const given = library ?? process.env.DIPTYCH_ORT_LIBRARY;
  if (device === "auto" && engine !== "portable" && !given && installedRuntimes().some((r) => r.device === "cuda")) {
    const obstacles = cudaObstacles(cudaOptions(flags));
    if (obstacles.length === 0) return cudaEngine(flags, obstacles, say);
    say(`${obstacles.join(" ")} Going on with the CPU.`);
  }
  return cpuEngine(flags, say);
}

export const cudaOptions = (flags: EngineFlags): CudaOptions => ({
  deviceId: flags["device-id"],
  libraries: flags["cuda-libraries"],
  graphs: flags["cuda-graphs"],
});

/** Nothing is fetched for a machine that cannot use it. */
async function cudaEngine(
  flags: EngineFlags,
  obstacles: readonly string[],
  say: (line: string) => void,
): Promise<NativeEngine> {
  if (obstacles.length) throw new Error(obstacles.join(" "));
  const { engine, library, threads } = flags;
  const device = "cuda";
  return openEngine({
    library: await libraryWithProgress(trainingLibrary, { library, device }, say),
    name: engine === "portable" ? "portable" : "training",
    device,
    cuda: cudaOptions(flags),
    threads,
  });
}

async function cpuEngine(
  { engine = "auto", library, threads }: EngineFlags,
  say: (line: string) => void,
): Promise<NativeEngine> {
  if (engine === "portable") return openEngine({ library: library ?? portableLibrary(), name: "portable", threads });
  try {
    return openEngine({
      library: await libraryWithProgress(trainingLibrary, { library }, say),
      name: "training",
      threads,
    });
  } catch (error) {
    const portable = installedRuntimes().find((r) => r.kind === "portable");
    if (engine === "training" || library || !portable) throw error;
    say(`${(error as Error).message} Going on with the portable engine, which is slower.`);
    return openEngine({ library: portable.path, name: "portable", threads });
  }
}
