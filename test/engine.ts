/** The engines that tests run on: the real libraries, opened once. */
import { openEngine, type NativeEngine } from "../src/engines/native/index.js";
import { portableLibrary, trainingLibrary } from "../src/runtimes.js";

let training: Promise<NativeEngine> | undefined;

/** OrtTrainingApi on the training library, two threads. */
export function trainingEngine(): Promise<NativeEngine> {
  training ??= trainingLibrary({ announce: (line) => process.stderr.write(`${line}\n`) }).then((library) =>
    openEngine({ library, name: "training", threads: 2 }),
  );
  return training;
}

/** The step graph on onnxruntime-node's library. */
export const portableEngine = (): NativeEngine =>
  openEngine({ library: portableLibrary(), name: "portable", threads: 2 });

/** Plain sessions on the training library: float64 kernels and training ops. */
export async function plainOnTraining(): Promise<NativeEngine> {
  return openEngine({ library: (await trainingEngine()).library, name: "portable", threads: 2 });
}
