/** What a packaged training step is: enough to drive it from any language. */
import type { Dialect } from "../onnx/graph.js";
import type { Every, Part } from "../step.js";
import type { DType, Tensors } from "../tensor.js";

export interface TensorInfo {
  name: string;
  dtype: DType;
  shape: number[];
}

/**
 * User inputs of training_model.onnx, in order: `inputs`, `scalars` (float32 []), then one per `state`, then one per `accumulation.sums`.
 * Its user outputs, in order: `loss`, `metrics` (float32 []), `applied` (bool []), then `output` of each state and of each sum.
 * step_model.onnx (plain, for runtimes without the training API) takes inputs, scalars, parameters, state, sums and gives loss, metrics,
 * applied, the outputs of state and sums, then `NAME.next` of each trainable parameter.
 */
export interface Manifest {
  version: 1;
  dialect: Dialect;
  inputs: TensorInfo[];
  scalars: string[];
  /** In the order of the training model's graph inputs. */
  parameters: (TensorInfo & { trainable: boolean })[];
  /**
   * next: `output` replaces the state; ring: `output` [rows, …] is written at row (step · rows) mod shape[0], step = applied steps so far.
   * every: "attempt": `output` replaces the state where the step is not applied, too.
   * parts: this state holds those tensors one after the other; files hold them by name and not the state itself.
   */
  state: (TensorInfo & { at: "next" | "ring"; every: Every; output: string; rows?: number; parts?: readonly Part[] })[];
  /**
   * So many batches make one update; without it, each does. `sums` are zeros for the first batch and the `output` of the batch before for
   * the others; state of `every: "batch"` is fed on from batch to batch too, all else stays as it was before the first. After the last batch
   * look at `applied`, then update the parameters and keep the last `output` of each state; rings take the rows of all batches in turn,
   * at row ((step · batches + batch) · rows) mod shape[0]. Loss, metrics and `applied` are those of the whole at the last batch.
   */
  accumulation?: { batches: number; sums: (TensorInfo & { output: string })[] };
  loss: string;
  metrics: string[];
  /** false: a gradient was not finite. Then do not call OptimizerStep, keep the old state (but every: "attempt"), call LazyResetGrad. */
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
