/** Engines on a native onnxruntime library. */
import { availableParallelism } from "node:os";
import type { Artifacts } from "../../artifacts/manifest.js";
import type { Device, Engine, EngineName, SessionOptions, TrainingSession } from "../index.js";
import { openApi, providers } from "./api.js";
import { openCuda, type CudaOptions } from "./cuda.js";
import { openPortable } from "./portable.js";
import { openSession, type Settings } from "./session.js";
import { openTraining } from "./training.js";

export interface EngineOptions {
  /** Path of the onnxruntime library. */
  library: string;
  name: EngineName;
  device?: Device;
  /** How the card is used, where device is cuda. */
  cuda?: CudaOptions;
  /** Intra-op threads of every session; default all cores. */
  threads?: number;
}

export type { CudaOptions } from "./cuda.js";

export interface NativeEngine extends Engine {
  readonly library: string;
  readonly providers: string[];
  readonly training: boolean;
  trainingSession(artifacts: Artifacts, options?: SessionOptions): Promise<TrainingSession>;
}

/**
 * Opens a library as an engine. `training` drives OrtTrainingApi and needs a library built with it; `portable` runs anywhere.
 * @example const engine = openEngine({ library: await trainingLibrary(), name: "training" });
 */
export function openEngine({
  library,
  name,
  device = "cpu",
  cuda = {},
  threads = availableParallelism(),
}: EngineOptions): NativeEngine {
  const api = openApi(library);
  if (name === "training" && !api.training)
    throw new Error(
      `${library} (ONNX Runtime ${api.version}) has no training API. Install one that has: diptych runtime install`,
    );
  const compiled = providers(api).map((p) => p.replace(/ExecutionProvider$/, ""));
  if (device === "cuda") openCuda(compiled, cuda);
  const settings = (o: SessionOptions = {}): Settings => ({
    ...o,
    threads: o.threads ?? threads,
    ...(device === "cuda" && { cuda: { ...cuda, tf32: o.tf32 ?? cuda.tf32 } }),
  });
  return {
    name,
    device,
    threads,
    library,
    version: api.version,
    providers: compiled,
    training: api.training !== undefined,
    session: (model, options) => openSession(api, model, settings(options)),
    trainingSession: (artifacts, options) =>
      (name === "training" ? openTraining : openPortable)(api, artifacts, settings({ spin: true, ...options })),
    release() {},
  };
}
