import assert from "node:assert/strict";
import { groupNorm } from "../../graphs/layers.js";
import { rootScope } from "../../graphs/scope.js";
import { input } from "../../src/onnx/graph.js";
import { Add, Resize, Shape } from "../../src/ops/index.js";
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
