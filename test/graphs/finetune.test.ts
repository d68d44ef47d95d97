import assert from "node:assert/strict";
import { openStep } from "../../evaluators/heads.js";
import { vector } from "../../evaluators/features.js";
import { sgd } from "../../graphs/optimizers.js";
import { classifier, finetuneStep, layerRates } from "../../graphs/finetune.js";
import { rootScope } from "../../graphs/scope.js";
import { input } from "../../src/onnx/graph.js";
import { random } from "../../src/random.js";
import { initialTensors } from "../../src/step.js";
import { scalar, zeros, type Tensor, type Tensors } from "../../src/tensor.js";
import { trainingEngine } from "../engine.js";
import { evaluate } from "../evaluate.js";
import { tinyInfo } from "../tinyRun.js";

describe("layer-wise decay", () => {
  it("gives each block its power, the stem the highest and the head none", () => {
    const names = ["b.conv1.weight", "b.bn1.bias", "b.layer1.0.conv1.weight", "b.layer1.0.downsample.0.weight"];
    const rates = layerRates(
      [...names, "b.layer1.1.bn1.weight", "b.layer2.0.bn1.weight", "b.norm.weight", "head.bias"],
      0.5,
    );
    assert.deepEqual([...rates.values()], [1 / 16, 1 / 16, 1 / 8, 1 / 8, 1 / 4, 1 / 2, 1, 1]);
  });
  it("at 1 changes nothing", () => {
    assert.deepEqual([...layerRates(["a.0.w", "a.1.w", "head.w"], 1).values()], [1, 1, 1]);
  });
});

describe("fine-tuning", () => {
  const info = tinyInfo(
    "vitTiny",
    { embedDim: 16, depth: 2, numHeads: 2, patchSize: 4 },
    { size: 8, resize: 8, mean: [0, 0, 0], std: [1, 1, 1] },
  );
  const [b, classes] = [4, 3];
  const labels = Int32Array.of(0, 2, 1, 1);
  const view = zeros("float32", [1, b, 3, 8, 8]);
  const r = random(0, "view");
  view.data.forEach((_, i) => (view.data[i] = r.normal()));

  const stepOf = (labelSmoothing: number, layerDecay = 1) =>
    finetuneStep({
      dialect: "training",
      info,
      classes,
      batchSize: b,
      labelSmoothing,
      layerDecay,
      optimizer: sgd as never,
      optimizerOptions: () => ({ ...sgd.defaults, momentum: 0, weightDecay: 0 }),
    });
  const lossOf = async (step: ReturnType<typeof stepOf>, mask: Tensor, share: number) => {
    const session = await openStep(await trainingEngine(), step, 0);
    const before = session.tensors();
    await session.step({ view, labels: vector(labels), mask, share: scalar(share) }, { lr: 1 });
    const [{ loss }, after] = [session.metrics(), session.tensors()];
    session.release();
    return { loss: loss!, before, after };
  };
  /** Log-probabilities of the classifier for given images, [B][C] */
  const logProbabilities = async (images: Float32Array, tensors: Tensors): Promise<number[][]> => {
    const { scope, collected } = rootScope("training");
    const x = input("x", "float32", [b, 3, 8, 8]);
    const logits = classifier(scope, x, info, classes);
    const inputs = [x, ...[...collected.parameters.values()].map((p) => p.value)];
    const fed = zeros("float32", [b, 3, 8, 8]);
    fed.data.set(images);
    const out = await evaluate(await trainingEngine(), inputs, { logits }, { ...tensors, x: fed });
    return Array.from({ length: b }, (_, i) => {
      const row = [...(out.logits!.data as Float32Array).subarray(i * classes, (i + 1) * classes)];
      const sum = Math.log(row.reduce((s, v) => s + Math.exp(v), 0));
      return row.map((v) => v - sum);
    });
  };
  const box = (left: number): Tensor => {
    const mask = zeros("float32", [1, 1, 8, 8]);
    mask.data.forEach((_, i) => (mask.data[i] = i % 8 < left ? 1 : 0));
    return mask;
  };

  it("mixes images by the mask and targets by the share, with smoothed labels", async () => {
    const step = stepOf(0.1);
    const { loss } = await lossOf(step, box(5), 0.6);
    const own = view.data as Float32Array;
    const images = own.map((v, i) => {
      const [image, rest] = [Math.floor(i / 192), i % 192];
      return i % 8 < 5 ? v : own[(b - 1 - image) * 192 + rest]!;
    });
    const rows = await logProbabilities(images, initialTensors(step, 0));
    const target = (i: number, c: number) => (labels[i] === c ? 0.9 : 0) + 0.1 / 3;
    let want = 0;
    rows.forEach((row, i) =>
      row.forEach((v, c) => (want -= ((0.6 * target(i, c) + 0.4 * target(b - 1 - i, c)) * v) / b)),
    );
    assert.ok(Math.abs(loss - want) < 1e-5, `${loss} is not ${want}`);
  });
  it("moves each layer at its own rate", async () => {
    const [even, decayed] = [await lossOf(stepOf(0), box(8), 1), await lossOf(stepOf(0, 0.5), box(8), 1)];
    for (const [name, rate] of [
      ["backbone.patchify.weight", 0.125],
      ["backbone.transformer.0.mlp.fc1.weight", 0.25],
      ["backbone.transformer.1.mlp.fc1.weight", 0.5],
      ["head.weight", 1],
    ] as const) {
      const known = even.before[name] ?? assert.fail(`${name}: there is ${Object.keys(even.before).join(" ")}`);
      const moved = (run: typeof even) => Number(run.after[name]!.data[3]) - Number(known.data[3]);
      assert.ok(Math.abs(moved(decayed) / moved(even) - rate) < 1e-2, `${name}: ${moved(decayed) / moved(even)}`);
    }
  });
});
