/** diptych: ONNX graphs with reverse-mode autodiff, training artifacts, and engines that run them. */
export {
  constant,
  constantOf,
  dims,
  input,
  int64s,
  type Attributes,
  type Dialect,
  type Dim,
  type Node,
  type Operand,
  type Type,
  type Value,
} from "./onnx/graph.js";
export { readInitializers, readModel, toModel, type GraphModel, type ModelInfo } from "./onnx/model.js";
export * from "./ops/index.js";
export { importGraph, type Imported, type Leaves } from "./importer.js";
export { gradients } from "./autodiff.js";
export { random, type Random } from "./random.js";
export { initialTensors, type Accumulation, type Init, type Parameter, type State, type TrainingStep } from "./step.js";
export { scheduled, type Horizon, type Schedule } from "./schedules.js";
export { scalar, tensor, zeros, type DType, type Tensor, type Tensors } from "./tensor.js";
export { packageStep, readArtifacts, writeArtifacts, type Artifacts, type Manifest } from "./artifacts/index.js";
export { readCheckpoint, writeCheckpoint } from "./artifacts/odtc.js";
export { readPth, writePth, type Checkpoint } from "./artifacts/pth.js";
export { readSafetensors, writeSafetensors } from "./artifacts/safetensors.js";
export { openEngine, type CudaOptions, type EngineOptions, type NativeEngine } from "./engines/native/index.js";
export {
  releaseAll,
  type Engine,
  type Feed,
  type Feeds,
  type Resident,
  type Residents,
  type Session,
  type SessionOptions,
  type TrainingSession,
} from "./engines/index.js";
export { install, installedRuntimes, portableLibrary, trainingLibrary, type RuntimeOptions } from "./runtimes.js";
export { train, type Prepared, type StepReport, type TrainOptions } from "./train.js";
export { imagenetStatistics, type ViewSpec } from "./views.js";
