import assert from "node:assert/strict";
import { gelu, groupNorm, layerNorm } from "../../graphs/layers.js";
import { rootScope } from "../../graphs/scope.js";
import { gradients } from "../../src/autodiff.js";
import { input, type Value } from "../../src/onnx/graph.js";
import { Add, Gelu, LayerNormalization, Mul, ReduceSum, Resize, Shape } from "../../src/ops/index.js";
import { random } from "../../src/random.js";
import { tensor, zeros } from "../../src/tensor.js";
import { portableEngine } from "../engine.js";
import { evaluate } from "../evaluate.js";

describe("group normalisation", () => {
  it("gives each group of an image mean β and deviation γ, on maps of a size that the graph does not know", async () => {
    const { scope, collected } = rootScope("portable", "eval");
    const x = input("x", "float32", ["B", 6, "H", "W"]);
    const y = groupNorm(scope, x, 3);
    assert.deepEqual(y.shape, ["B", 6, "H", "W"]);
    const r = random(0, "groupNorm");
    const image = tensor(
      "float32",
      [2, 6, 3, 5],
      Array.from({ length: 180 }, (_, i) => 7 * Math.floor(i / 30) + 3 * r.normal()),
    );
    const feeds = {
      x: image,
      weight: tensor("float32", [6], [2, 2, 0.5, 0.5, 1, 1]),
      bias: tensor("float32", [6], [1, 1, -3, -3, 0, 0]),
    };
    const inputs = [x, ...[...collected.parameters.values()].map((p) => p.value)];
    const data = (await evaluate(portableEngine(), inputs, { y }, feeds)).y!.data as Float32Array;
    for (let group = 0; group < 6; group++) {
      const own = [...data.subarray(30 * group, 30 * group + 30)];
      const mean = own.reduce((a, b) => a + b, 0) / 30;
      const deviation = Math.sqrt(own.reduce((a, b) => a + (b - mean) ** 2, 0) / 30);
      assert.ok(Math.abs(mean - [1, -3, 0][group % 3]!) < 1e-5, `mean ${mean}`);
      assert.ok(Math.abs(deviation - [2, 0.5, 1][group % 3]!) < 1e-4, `deviation ${deviation}`);
    }
  });
  it("refuses channels that do not divide", () => {
    const { scope } = rootScope("portable");
    assert.throws(
      () => groupNorm(scope.child("head.norm"), input("x", "float32", [1, 10, 2, 2]), 4),
      /head\.norm: 10 channels do not divide into 4 equal groups\./,
    );
  });
});

/** Draws around 2, of deviation 3 */
const drawn = (name: string, shape: number[]) => {
  const r = random(0, name);
  return tensor(
    "float32",
    shape,
    Array.from({ length: shape.reduce((a, b) => a * b) }, () => 2 + 3 * r.normal()),
  );
};

/** Asserts that two forms have one value, and one gradient of Σ g·value for each of `wrt`. */
async function assertAlike(parts: Value, node: Value, g: Value, wrt: readonly Value[]): Promise<void> {
  const named = (form: string, v: Value) =>
    Object.fromEntries(
      [v, ...gradients(ReduceSum(Mul(v, g), { keepdims: 0 }), wrt)].map((out, i) => [`${form}${i}`, out]),
    );
  const inputs = [g, ...wrt];
  const feeds = Object.fromEntries(inputs.map((v) => [v.name!, drawn(v.name!, v.shape as number[])]));
  const out = await evaluate(portableEngine(), inputs, { ...named("parts", parts), ...named("node", node) }, feeds);
  for (let i = 0; i <= wrt.length; i++)
    out[`node${i}`]!.data.forEach((v, at) =>
      assert.ok(Math.abs(Number(v) - Number(out[`parts${i}`]!.data[at])) < 1e-5 * (1 + Math.abs(Number(v)))),
    );
}

describe("in a training step on the CPU", () => {
  const [x, g] = [input("x", "float32", [2, 3, 7]), input("g", "float32", [2, 3, 7])];

  it("layer normalisation gives the node's values and gradients, from other ops", async () => {
    const { scope, collected } = rootScope("portable");
    const y = layerNorm(scope, x, 1e-3);
    assert.notEqual(y.node!.op.type, "LayerNormalization");
    const [scale, bias] = [...collected.parameters.values()].map((p) => p.value) as [Value, Value];
    const [node] = LayerNormalization(x, scale, bias, { epsilon: 1e-3 });
    await assertAlike(y, node, g, [x, scale, bias]);
  });
  it("GELU gives the node's values and gradients, from other ops", async () => {
    const y = gelu(rootScope("training").scope, x);
    assert.notEqual(y.node!.op.type, "Gelu");
    await assertAlike(y, Gelu(x), g, [x]);
  });
});

describe("resizing to another map", () => {
  it("takes that map's height and width, known or not", async () => {
    const [coarse, fine] = [
      input("coarse", "float32", ["B", 2, "h", "w"]),
      input("fine", "float32", ["B", 2, "H", "W"]),
    ];
    const sum = Add(Resize(coarse, { sizes: Shape(fine) }, { coordinate_transformation_mode: "asymmetric" }), fine);
    assert.deepEqual(sum.shape, ["B", 2, "H", "W"]);
    const counted = (shape: number[]) => tensor("float32", shape, Array(shape.reduce((a, b) => a * b)).keys());
    const feeds = { coarse: counted([1, 2, 2, 2]), fine: zeros("float32", [1, 2, 3, 4]) };
    const { sum: got } = await evaluate(portableEngine(), [coarse, fine], { sum }, feeds);
    assert.deepEqual([...got!.data].slice(0, 12), [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3]);
  });
});
