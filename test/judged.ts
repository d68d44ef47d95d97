/** The independent judge: onnxruntime-node in a process of its own. */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Tensor } from "../src/tensor.js";

const program = `
  const ort = require("onnxruntime-node");
  const { file, shape, data } = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
  ort.InferenceSession.create(file).then((s) => s.run({ [s.inputNames[0]]: new ort.Tensor("float32", Float32Array.from(data), shape) })).then((out) =>
    console.log(JSON.stringify(Object.fromEntries(Object.entries(out).map(([k, t]) => [k, { dims: t.dims, data: Array.from(t.data, Number) }])))));`;

/** What onnxruntime-node says a model file makes of an image. */
export function judged(file: string, image: Tensor): Record<string, { dims: number[]; data: number[] }> {
  const out = execFileSync(process.execPath, ["-e", program], {
    encoding: "utf8",
    cwd: fileURLToPath(new URL("../../", import.meta.url)),
    input: JSON.stringify({ file, shape: image.shape, data: [...(image.data as Float32Array)] }),
    maxBuffer: 1e8,
  });
  return JSON.parse(out) as never;
}
