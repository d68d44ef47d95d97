/** Samples of ops as graphs: drawn inputs, and the gradients of ⟨g, f(x)⟩ for a random g. */
import { gradients } from "../../src/autodiff.js";
import { constantOf, dims, input, type Device, type Dialect, type Value } from "../../src/onnx/graph.js";
import { Mul, ReduceSum } from "../../src/ops/index.js";
import { random, type Random } from "../../src/random.js";
import { tensor, type DType, type Tensor, type Tensors } from "../../src/tensor.js";
import type { Input, Sample } from "./samples.js";

export const seed = 7;

function drawn(r: Random, { shape, low = -2, high = 2, below, apart }: Input, dtype: DType): Tensor {
  const n = shape.reduce((a, b) => a * b, 1);
  if (below !== undefined)
    return tensor(
      "int64",
      shape,
      Array.from({ length: n }, () => r.integer(below)),
    );
  if (apart !== undefined)
    return tensor(
      dtype,
      shape,
      Array.from(r.permutation(n), (v) => (v - n / 2) * apart),
    );
  return tensor(
    dtype,
    shape,
    Array.from({ length: n }, () => r.uniform(low, high)),
  );
}

export interface Drawn {
  inputs: Value[];
  feeds: Tensors;
  /** indices of the inputs that have a gradient */
  free: number[];
}
export function prepared(sample: Sample, dtype: DType, dialect: Dialect, salt: string, device: Device = "cpu"): Drawn {
  const r = random(seed, salt);
  const tensors = sample.inputs.map((i) => drawn(r, i, dtype));
  const inputs = tensors.map((t, i) => input(`x${i}`, t.dtype, t.shape, { path: "sample", dialect, device }));
  return {
    inputs,
    feeds: Object.fromEntries(tensors.map((t, i) => [`x${i}`, t])),
    free: tensors.flatMap((t, i) => (t.dtype === dtype ? [i] : [])),
  };
}

export const like = (r: Random, t: Tensor): Tensor =>
  tensor(
    t.dtype,
    t.shape,
    Array.from({ length: t.data.length }, () => r.uniform(-1, 1)),
  );
/** A sample as a graph of y and of the gradients d0, d1 … of ⟨g, y⟩, with what to feed it. */
export function reversed(sample: Sample, dtype: DType, dialect: Dialect, salt: string, device: Device = "cpu") {
  const { inputs, feeds, free } = prepared(sample, dtype, dialect, salt, device);
  const y = sample.build(...inputs);
  const g = like(
    random(seed, salt, "g"),
    tensor(dtype, dims(y), Array<number>(dims(y).reduce((a, b) => a * b, 1)).fill(0)),
  );
  const loss = ReduceSum(Mul(y, constantOf(g)), { keepdims: 0 });
  const dx = gradients(
    loss,
    free.map((i) => inputs[i]!),
  );
  const outputs: Record<string, Value> = { y, ...Object.fromEntries(dx.map((d, k) => [`d${free[k]}`, d])) };
  return { inputs, feeds, free, y, g, outputs };
}
