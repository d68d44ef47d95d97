/** The judges: any encoder.onnx in, numbers out. */
export * from "./bag.js";
export * from "./collapse.js";
export * from "./features.js";
export * from "./knn.js";
