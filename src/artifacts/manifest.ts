/** What a packaged training step is: enough to drive it from any language. */
import type { Dialect } from "../onnx/graph.js";
import type { DType, Tensors } from "../tensor.js";

export interface TensorInfo {
  name: string;
  dtype: DType;
  shape: number[];
}

/**
 * User inputs of training_model.onnx, in order: `inputs`, `scalars` (float32 []), then one per `state`.
 * Its user outputs, in order: `loss`, `metrics` (float32 []), `applied` (bool []), then `output` of each state.
 * step_model.onnx (plain, for runtimes without the training API) takes inputs, scalars, parameters, state and gives loss, metrics,
 * applied, the state outputs, then `NAME.next` of each trainable parameter.
 */
export interface Manifest {
  version: 1;
  dialect: Dialect;
  inputs: TensorInfo[];
  scalars: string[];
  /** In the order of the training model's graph inputs. */
  parameters: (TensorInfo & { trainable: boolean })[];
  /** next: `output` replaces the state; ring: `output` [rows, …] is written at row (step · rows) mod shape[0], step = applied steps so far. */
  state: (TensorInfo & { at: "next" | "ring"; output: string; rows?: number })[];
  loss: string;
  metrics: string[];
  /** false: a gradient was not finite. Then do not call OptimizerStep, keep the old state, call LazyResetGrad. */
  applied: string;
  /** What schedules said when the artifacts were built: values of each scalar at the named steps. */
  schedules?: Record<string, { step: number[]; value: number[] }>;
}

/** The files of a packaged step, as bytes, with the tensors it starts from. */
export interface Artifacts {
  manifest: Manifest;
  /** training packaging: OrtTrainingApi */
  trainingModel?: Uint8Array;
  evalModel?: Uint8Array;
  optimizerModel?: Uint8Array;
  /** portable packaging: a plain session */
  stepModel?: Uint8Array;
  /** Initial parameters and state, by name. */
  initial: Tensors;
}
