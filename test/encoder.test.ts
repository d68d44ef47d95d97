import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { below, encoderModel, network } from "../graphs/encoder.js";
import { rootScope } from "../graphs/scope.js";
import { packageStep } from "../src/artifacts/index.js";
import { constant, input } from "../src/onnx/graph.js";
import { Div, Sub } from "../src/ops/index.js";
import { random } from "../src/random.js";
import { initialTensors } from "../src/step.js";
import { zeros } from "../src/tensor.js";
import { trainingEngine } from "./engine.js";
import { evaluate } from "./evaluate.js";
import { judged } from "./judged.js";
import { tinyInfo, tinyInputs, tinyScalars, tinyStep } from "./tinyRun.js";

describe("encoder.onnx", () => {
  it("equals the trained network in evaluation mode, at other batch and image sizes, in onnxruntime-node", async () => {
    const engine = await trainingEngine();
    const step = tinyStep("simclr", "training");
    const session = await engine.trainingSession(packageStep(step, initialTensors(step, 0), ["training"]));
    for (let t = 0; t < 3; t++) await session.step(tinyInputs("simclr", t), tinyScalars);
    const tensors = below("student.backbone", session.tensors());
    session.release();
    const info = tinyInfo(
      "resnet18",
      { stem: "cifar", width: 8 },
      { resize: 18, mean: [0.4, 0.5, 0.6], std: [0.2, 0.3, 0.25] },
    );
    const dir = mkdtempSync(join(tmpdir(), "encoder-"));
    writeFileSync(join(dir, "encoder.onnx"), encoderModel(info, tensors));
    for (const [b, h, w] of [
      [1, 16, 16],
      [5, 24, 40],
    ] as const) {
      const shape = [b, 3, h, w];
      const image = zeros("float32", shape);
      const r = random(0, "image", b);
      for (let i = 0; i < image.data.length; i++) image.data[i] = r.uniform();
      const got = judged(join(dir, "encoder.onnx"), image);
      // the training network's own code, in its dialect, in evaluation mode
      const { scope, collected } = rootScope("training", "eval");
      const x = input("image", "float32", shape);
      const { backbone, options } = network("resnet18", info.options);
      const { features, map } = backbone.forward(
        scope,
        Div(Sub(x, constant([1, 3, 1, 1], info.mean)), constant([1, 3, 1, 1], info.std)),
        options,
      );
      const inputs = [
        x,
        ...[...collected.parameters.values()].map((p) => p.value),
        ...[...collected.states.values()].map((e) => e.input),
      ];
      const want = await evaluate(engine, inputs, { features, map }, { ...tensors, image });
      for (const name of ["features", "map"] as const) {
        assert.deepEqual(got[name]!.dims, [...want[name]!.shape]);
        got[name]!.data.forEach((v, i) =>
          assert.ok(Math.abs(v - Number(want[name]!.data[i])) < 1e-5 * (1 + Math.abs(v)), `${name}[${i}]`),
        );
      }
    }
    rmSync(dir, { recursive: true });
  });
  it("of a ViT takes any batch", async () => {
    const { backbone, options } = network("vitTiny", { embedDim: 32, depth: 2, numHeads: 2, patchSize: 4 });
    const { scope, collected } = rootScope("portable", "eval");
    backbone.forward(scope, input("x", "float32", [1, 3, 16, 16]), options);
    const tensors = initialTensors({ parameters: [...collected.parameters.values()], state: [] }, 0);
    const info = tinyInfo("vitTiny", options, { mean: [0, 0, 0], std: [1, 1, 1] });
    const session = await (await trainingEngine()).session(encoderModel(info, tensors));
    for (const b of [1, 3]) {
      const out = await session.run({ image: zeros("float32", [b, 3, 16, 16]) });
      assert.deepEqual([...out.features!.shape], [b, 32]);
      assert.deepEqual([...out.map!.shape], [b, 32, 4, 4]);
    }
    session.release();
  });
  it("says which weights it misses", () => {
    const info = tinyInfo("resnet18", {}, { mean: [0, 0, 0], std: [1, 1, 1] });
    assert.throws(
      () => encoderModel(info, {}),
      /The encoder needs "conv1\.weight" and 99 more tensors, which the weights do not hold\./,
    );
  });
});
