/** The library in a page: a graph, its gradient, a model, a session, and a loss that falls. Read this first. */
import assert from "node:assert/strict";
import { gradients } from "../src/autodiff.js";
import { toModel } from "../src/onnx/model.js";
import { input } from "../src/onnx/graph.js";
import { Gemm, Mul, Relu, SoftmaxCrossEntropyLoss, Sub } from "../src/ops/index.js";
import { random } from "../src/random.js";
import { tensor, type Tensors } from "../src/tensor.js";
import { portableEngine } from "./engine.js";

describe("the library in a page", () => {
  it("learns to tell two rings apart", async () => {
    // a graph: x [32,2] → Relu(x·w1ᵀ) → logits [32,2] → cross-entropy
    const x = input("x", "float32", [32, 2]);
    const labels = input("labels", "int64", [32]);
    const w1 = input("w1", "float32", [16, 2]);
    const w2 = input("w2", "float32", [2, 16]);
    const hidden = Relu(Gemm(x, w1, null, { transB: 1 }));
    const [loss] = SoftmaxCrossEntropyLoss(Gemm(hidden, w2, null, { transB: 1 }), labels);

    // its gradient, and one step of gradient descent, are graphs too
    const [d1, d2] = gradients(loss, [w1, w2]) as [typeof w1, typeof w2];
    const model = toModel({
      inputs: [x, labels, w1, w2],
      outputs: { loss, w1_next: Sub(w1, Mul(d1, 0.5)), w2_next: Sub(w2, Mul(d2, 0.5)) },
    });

    // any ONNX Runtime runs it
    const session = await portableEngine().session(model);
    const r = random(0, "rings");
    const points = Array.from({ length: 32 }, (_, i) => {
      const angle = r.uniform(0, 2 * Math.PI);
      const radius = i % 2 ? 1.5 : 0.5;
      return [radius * Math.cos(angle), radius * Math.sin(angle)];
    });
    const data = {
      x: tensor("float32", [32, 2], points.flat()),
      labels: tensor(
        "int64",
        [32],
        points.map((_, i) => i % 2),
      ),
    };
    const normal = (shape: number[]) =>
      tensor(
        "float32",
        shape,
        Array.from({ length: shape[0]! * shape[1]! }, () => r.normal()),
      );
    let weights: Tensors = { w1: normal([16, 2]), w2: normal([2, 16]) };
    const losses: number[] = [];
    for (let step = 0; step < 100; step++) {
      const out = await session.run({ ...data, ...weights });
      losses.push(Number(out.loss!.data[0]));
      weights = { w1: out.w1_next!, w2: out.w2_next! };
    }
    assert.ok(losses.at(-1)! < 0.5 * losses[0]!, `loss went from ${losses[0]} to ${losses.at(-1)}`);
  });
});
