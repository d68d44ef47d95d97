/** Which engine a command runs on: the training library where it can be had, else the portable one, said once. */
import cliProgress from "cli-progress";
import { openEngine, type NativeEngine } from "../src/engines/native/index.js";
import { installedRuntimes, portableLibrary, trainingLibrary } from "../src/runtimes.js";

export interface EngineFlags {
  engine?: string;
  device?: string;
  library?: string;
  threads?: number;
}

/** Fetches with a bar on a terminal, plain lines elsewhere. */
export async function libraryWithProgress(library: string | undefined, say: (line: string) => void): Promise<string> {
  const bar = process.stderr.isTTY
    ? new cliProgress.SingleBar({ format: "{bar} {mb} MB", clearOnComplete: true })
    : undefined;
  let started = false;
  try {
    return await trainingLibrary({
      library,
      announce: say,
      progress: (bytes) => {
        if (!started) bar?.start(16e6, 0, { mb: 0 });
        started = true;
        bar?.update(bytes, { mb: (bytes / 1e6).toFixed(1) });
      },
    });
  } finally {
    if (started) bar?.stop();
  }
}

/** An engine as --engine, --device, --library and --threads ask for. */
export async function engineFor(
  { engine = "auto", device = "auto", library, threads }: EngineFlags,
  say: (line: string) => void,
): Promise<NativeEngine> {
  if (device === "cuda") throw new Error("The CUDA engine is not built yet; run with --device cpu.");
  if (engine === "portable") return openEngine({ library: library ?? portableLibrary(), name: "portable", threads });
  try {
    return openEngine({ library: await libraryWithProgress(library, say), name: "training", threads });
  } catch (error) {
    const portable = installedRuntimes().find((r) => r.kind === "portable");
    if (engine === "training" || library || !portable) throw error;
    say(`${(error as Error).message} Going on with the portable engine, which is slower.`);
    return openEngine({ library: portable.path, name: "portable", threads });
  }
}
