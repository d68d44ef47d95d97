/** The judges: any encoder.onnx in, numbers out. */
export * from "./coco/index.js";
export * from "./collapse.js";
export * from "./features.js";
export * from "./knn.js";
export * from "./maps.js";
export * from "./miou.js";
export * from "./principal.js";
export * from "./voc.js";
export * from "./vocFiles.js";
