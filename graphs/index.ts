/** What is learned: networks, methods and optimizers as pure functions from graph to graph. */
export * from "./augment.js";
export * from "./backbones/index.js";
export * from "./clipping.js";
export * from "./correspondence.js";
export * from "./detection/index.js";
export * from "./encoder.js";
export * from "./finetune.js";
export * from "./knn.js";
export * from "./layers.js";
export * from "./methods/index.js";
export * from "./names.js";
export * from "./optimizers.js";
export * from "./places.js";
export { lossScaleDefaults, precisions, type LossScale, type Precision } from "./precision.js";
export * from "./probe.js";
export * from "./segmentation.js";
export { rootScope, statesOf, type Collected, type Mode, type Scope } from "./scope.js";
export { trainingStep, type StepOptions } from "./step.js";
