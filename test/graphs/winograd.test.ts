import assert from "node:assert/strict";
import { winograd, suitsWinograd } from "../../graphs/winograd.js";
import { convAsProduct } from "../../graphs/layers.js";
import { gradients } from "../../src/autodiff.js";
import { input, type Dialect, type Value } from "../../src/onnx/graph.js";
import { toModel } from "../../src/onnx/model.js";
import { Conv, Mul, ReduceSum } from "../../src/ops/index.js";
import { random } from "../../src/random.js";
import { zeros, type Tensor, type Tensors } from "../../src/tensor.js";
import { portableEngine } from "../engine.js";

const drawn = (name: string, shape: number[]): Tensor => {
  const t = zeros("float32", shape);
  const r = random(5, name);
  for (let i = 0; i < t.data.length; i++) t.data[i] = r.normal();
  return t;
};
const pads = [1, 1, 1, 1] as const;

/** y, dx and dw of one form of the convolution, by the runtime. */
async function results(form: (x: Value, w: Value) => Value, shape: number[], o: number, dialect: Dialect = "portable") {
  const origin = { path: "conv", dialect };
  const [n, c, h, width] = shape as [number, number, number, number];
  const x = input("x", "float32", shape, origin);
  const w = input("w", "float32", [o, c, 3, 3], origin);
  const g = input("g", "float32", [n, o, h, width], origin);
  const y = form(x, w);
  const [dx, dw] = gradients(ReduceSum(Mul(y, g), { keepdims: 0 }), [x, w]) as [Value, Value];
  const session = await portableEngine().session(toModel({ inputs: [x, w, g], outputs: { y, dx, dw } }));
  const out = await session.run({ x: drawn("x", shape), w: drawn("w", [o, c, 3, 3]), g: drawn("g", [n, o, h, width]) });
  session.release();
  return out;
}

/** Largest difference over the largest value. */
function apart(a: Tensors, b: Tensors, name: string): number {
  const [p, q] = [a[name]!.data as Float32Array, b[name]!.data as Float32Array];
  assert.deepEqual(a[name]!.shape, b[name]!.shape);
  let [off, size] = [0, 0];
  p.forEach((v, i) => {
    off = Math.max(off, Math.abs(v - q[i]!));
    size = Math.max(size, Math.abs(v));
  });
  return off / size;
}

describe("convolutions written as products", () => {
  const direct = (x: Value, w: Value) => Conv(x, w, null, { pads });
  for (const shape of [
    [2, 5, 8, 8],
    [3, 4, 7, 10], // tiles that reach over the border
    [2, 16, 4, 1],
    [1, 3, 17, 6],
  ])
    it(`Winograd's tiles of a batch [${shape.join()}] give the convolution and both gradients`, async () => {
      const [own, reference] = [await results(winograd, shape, 6), await results(direct, shape, 6)];
      for (const name of ["y", "dx", "dw"])
        assert.ok(apart(reference, own, name) < 5e-6, `${name}: ${apart(reference, own, name)}`);
    });

  it("one product of patches gives them too", async () => {
    const product = (x: Value, w: Value) => convAsProduct(x, w, null, { pads });
    const [own, reference] = [await results(product, [4, 6, 2, 2], 5), await results(direct, [4, 6, 2, 2], 5)];
    for (const name of ["y", "dx", "dw"]) assert.ok(apart(reference, own, name) < 2e-6);
  });

  it("is left alone where it would not pay or not be right", () => {
    const suits = (shape: (number | string)[], w: number[], window = {}) =>
      suitsWinograd(input("x", "float32", shape), input("w", "float32", w), { pads, ...window });
    assert.ok(suits([32, 64, 8, 8], [64, 64, 3, 3]));
    assert.ok(!suits(["B", 64, 8, 8], [64, 64, 3, 3]), "a symbolic batch");
    assert.ok(!suits([32, 64, 8, 8], [64, 64, 3, 3], { strides: [2, 2] }), "a stride");
    assert.ok(!suits([32, 64, 8, 8], [64, 64, 1, 1], { pads: [0, 0, 0, 0] }), "1×1");
    assert.ok(!suits([32, 16, 32, 32], [16, 16, 3, 3]), "few channels on a large map");
    assert.ok(!suits([4, 512, 4, 4], [512, 512, 3, 3]), "few tiles");
  });
});
