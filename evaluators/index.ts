/** The judges: any encoder.onnx in, numbers out. */
export * from "./collapse.js";
export * from "./features.js";
export * from "./knn.js";
export * from "./principal.js";
