/** Every op, by family. PascalCase: exactly one ONNX node, spelled as in the spec. */
export * from "./elementwise.js";
export * from "./reduction.js";
export * from "./movement.js";
export * from "./contraction.js";
export * from "./normalization.js";
export * from "./spatial.js";
