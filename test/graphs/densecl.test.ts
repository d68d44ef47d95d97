import assert from "node:assert/strict";
import { l2normalize } from "../../graphs/layers.js";
import { neck } from "../../graphs/methods/densecl.js";
import { infoNce } from "../../graphs/methods/mocov2.js";
import { rootScope } from "../../graphs/scope.js";
import { gradients } from "../../src/autodiff.js";
import { constant, input, type Value } from "../../src/onnx/graph.js";
import {
  ArgMax,
  Cast,
  Concat,
  Equal,
  MatMul,
  Mul,
  ReduceMean,
  ReduceSum,
  SoftmaxCrossEntropyLoss,
  transposed,
} from "../../src/ops/index.js";
import { random } from "../../src/random.js";
import { initialTensors } from "../../src/step.js";
import { tensor } from "../../src/tensor.js";
import { portableEngine, trainingEngine } from "../engine.js";
import { evaluate } from "../evaluate.js";

/** InfoNCE as PyTorch users write it: the logits side by side, the key's in column 0. */
function crossEntropy(q: Value, k: Value, queue: Value, temperature: number) {
  const n = q.shape[0] as number;
  const labels = constant([n], Array<number>(n).fill(0), "int64");
  const key = ReduceSum(Mul(q, k), { axes: [1], keepdims: 1 });
  const scores = Mul(Concat([key, MatMul(q, transposed(queue))], { axis: 1 }), 1 / temperature);
  const first = Cast(Equal(ArgMax(scores, { axis: 1, keepdims: 0 }), labels), "float32");
  return { loss: SoftmaxCrossEntropyLoss(scores, labels)[0], top1: ReduceMean(first, { keepdims: 0 }) };
}

describe("DenseCL's dense loss", () => {
  for (const dialect of ["portable", "training"] as const)
    it(`and its gradients are the same in blocks of 3 rows, of all, and by autodiff (${dialect})`, async () => {
      const shapes = { r: [11, 4], t: [11, 4], queue: [20, 4] };
      const rand = random(0, "dense");
      const feeds = Object.fromEntries(
        Object.entries(shapes).map(([n, s]) => [
          n,
          tensor(
            "float32",
            s,
            Array.from({ length: s[0]! * 4 }, () => rand.normal()),
          ),
        ]),
      );
      const [r, t, queue] = Object.entries(shapes).map(([n, s]) => input(n, "float32", s, { path: "", dialect }));
      const unit = [r, t, queue].map((x) => l2normalize(x!));
      const forms = {
        blocks: infoNce(unit[0]!, unit[1]!, unit[2]!, 0.2, 3 * 20 + 5),
        whole: infoNce(unit[0]!, unit[1]!, unit[2]!, 0.2),
        autodiff: crossEntropy(unit[0]!, unit[1]!, unit[2]!, 0.2),
      };
      const outputs = Object.entries(forms).flatMap(([form, { loss, top1 }]) => [
        [`${form} loss`, loss] as const,
        [`${form} top1`, top1] as const,
        [`${form} dq`, gradients(loss, [r!])[0]!] as const,
        [`${form} dk`, gradients(loss, [t!])[0]!] as const,
      ]);
      const engine = dialect === "training" ? await trainingEngine() : portableEngine();
      const out = await evaluate(engine, [r!, t!, queue!], Object.fromEntries(outputs), feeds);
      for (const form of ["blocks", "whole"])
        for (const part of ["loss", "top1", "dq", "dk"])
          out[`autodiff ${part}`]!.data.forEach((v, i) => {
            const got = Number(out[`${form} ${part}`]!.data[i]);
            assert.ok(
              Math.abs(got - Number(v)) < 2e-6 * (1 + Math.abs(Number(v))),
              `${form} ${part}[${i}]: ${got}, ${v}`,
            );
          });
    });
});

describe("DenseCL's grid", () => {
  it("larger than the feature map is refused in a sentence", () => {
    assert.throws(
      () => neck(rootScope("training").scope, input("map", "float32", [2, 8, 2, 2]), 8, 4, 7),
      /densecl: method\.numGrid is 7, but the feature map has 2 cells a side\. Lower numGrid, or raise data\.size\./,
    );
  });
  it("of one cell sees what the global head sees", async () => {
    const { scope, collected } = rootScope("training");
    const map = input("map", "float32", [2, 3, 4, 4]);
    const { global, dense } = neck(scope, map, 5, 2, 1);
    const parameters = [...collected.parameters.values()];
    const start = initialTensors({ parameters, state: [] }, 0);
    for (const name of ["0.weight", "0.bias", "2.weight", "2.bias"])
      start[`mlp2.${name}`] = { ...start[`mlp.${name}`]!, shape: start[`mlp2.${name}`]!.shape };
    const feeds = {
      ...start,
      map: tensor(
        "float32",
        [2, 3, 4, 4],
        Array.from({ length: 96 }, (_, i) => Math.sin(i)),
      ),
    };
    const out = await evaluate(
      await trainingEngine(),
      [map, ...parameters.map((p) => p.value)],
      { global, dense },
      feeds,
    );
    out.global!.data.forEach((v, i) => assert.ok(Math.abs(Number(v) - Number(out.dense!.data[i])) < 1e-6));
  });
});
