/** Engines on a native onnxruntime library. */
import { availableParallelism } from "node:os";
import type { Artifacts } from "../../artifacts/manifest.js";
import type { Dialect } from "../../onnx/graph.js";
import type { Device, Engine, EngineName, SessionOptions, TrainingSession } from "../index.js";
import { openApi, providers } from "./api.js";
import { openCuda, type CudaOptions } from "./cuda.js";
import { deviceMemory } from "./deviceMemory.js";
import { hostMemory, type Memory } from "./memory.js";
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
  /** Where tensors live between runs; default where the device computes. `device` on the CPU runs what a card's does. */
  memory?: "host" | "device";
  /** Intra-op threads of every session; default all cores. */
  threads?: number;
}

export type { CudaOptions } from "./cuda.js";

export interface NativeEngine extends Engine {
  readonly library: string;
  readonly providers: string[];
  readonly training: boolean;
  /** What steps are best built in: the training library has its fused ops in either packaging. */
  readonly dialect: Dialect;
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
  memory = device === "cuda" ? "device" : "host",
  threads = availableParallelism(),
}: EngineOptions): NativeEngine {
  const api = openApi(library);
  if (name === "training" && !api.training)
    throw new Error(
      `${library} (ONNX Runtime ${api.version}) has no training API. Install one that has: diptych runtime install`,
    );
  const compiled = providers(api).map((p) => p.replace(/ExecutionProvider$/, ""));
  if (device === "cuda") openCuda(compiled, cuda);
  if (cuda.graphs && name === "training")
    throw new Error("CUDA graphs hold a step that is one graph. Open the engine as portable: --engine portable.");
  const settings = (o: SessionOptions = {}): Settings => ({
    ...o,
    threads: o.threads ?? threads,
    ...(device === "cuda" && { cuda: { ...cuda, tf32: o.tf32 ?? cuda.tf32 } }),
  });
  let opened: Promise<Memory> | undefined;
  const where = (): Promise<Memory> =>
    (opened ??= memory === "device" ? deviceMemory(api, settings()) : Promise.resolve(hostMemory(api)));
  return {
    name,
    device,
    apart: memory === "device",
    threads,
    library,
    version: api.version,
    providers: compiled,
    training: api.training !== undefined,
    dialect: api.training ? "training" : "portable",
    session: async (model, options) => openSession(api, await where(), model, settings(options)),
    trainingSession: async (artifacts, options) =>
      (name === "training" ? openTraining : openPortable)(api, await where(), artifacts, {
        ...settings({ spin: true, ...options }),
        graphs: cuda.graphs,
      }),
    upload: async (feeds) => (await where()).upload(feeds),
    release: () =>
      void opened?.then(
        (m) => m.release(),
        () => undefined,
      ),
  };
}
