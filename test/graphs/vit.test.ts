import assert from "node:assert/strict";
import { classToken, vitTiny, vitTokens } from "../../graphs/backbones/vit.js";
import { rootScope } from "../../graphs/scope.js";
import { gradients } from "../../src/autodiff.js";
import { input, nodesOf, type Value } from "../../src/onnx/graph.js";
import { Mul, ReduceSum } from "../../src/ops/index.js";
import { random } from "../../src/random.js";
import { tensor } from "../../src/tensor.js";
import { portableEngine } from "../engine.js";
import { evaluate } from "../evaluate.js";

const normal = (v: Value) => {
  const r = random(0, v.name!);
  const shape = v.shape as number[];
  return tensor(
    "float32",
    shape,
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => r.normal() / 2),
  );
};

describe("a ViT", () => {
  const o = { ...vitTiny.defaults, embedDim: 16, depth: 2, numHeads: 2, patchSize: 4, qkvBias: true };
  const image = input("image", "float32", [2, 3, 16, 16]);
  const attended = (v: Value) =>
    nodesOf([v])
      .filter((n) => n.op.type === "Softmax")
      .map((n) => n.outputs[0]!.shape);

  it("in a training step runs its last block for the class token alone, with the values and gradients of the whole", async () => {
    const { scope, collected } = rootScope("portable", "train");
    const { features } = vitTiny.forward(scope, image, o);
    const whole = classToken(vitTokens(scope, image, o));
    assert.deepEqual(attended(features), [
      [2, 2, 17, 17],
      [2, 2, 1, 17],
    ]);
    assert.deepEqual(attended(whole), [
      [2, 2, 17, 17],
      [2, 2, 17, 17],
    ]);

    const parameters = [...collected.parameters.values()].map((p) => p.value);
    const g = input("g", "float32", [2, 16]);
    const named = (form: string, v: Value) =>
      Object.fromEntries(
        [v, ...gradients(ReduceSum(Mul(v, g), { keepdims: 0 }), parameters)].map((out, i) => [`${form}${i}`, out]),
      );
    const inputs = [image, g, ...parameters];
    const feeds = Object.fromEntries(inputs.map((v) => [v.name!, normal(v)]));
    const out = await evaluate(portableEngine(), inputs, { ...named("row", features), ...named("all", whole) }, feeds);
    for (let i = 0; i <= parameters.length; i++)
      out[`all${i}`]!.data.forEach((v, at) =>
        assert.ok(
          Math.abs(Number(v) - Number(out[`row${i}`]!.data[at])) < 1e-4 * (1 + Math.abs(Number(v))),
          i ? parameters[i - 1]!.name : "features",
        ),
      );
  });

  it("as an encoder runs each block once", () => {
    const { features } = vitTiny.forward(rootScope("portable", "eval").scope, image, o);
    assert.deepEqual(attended(features), [
      [2, 2, 17, 17],
      [2, 2, 17, 17],
    ]);
  });
});
