/** The segmenter beside torchvision's ResNet-18 with an FCN head: test/fixtures/segmentation.safetensors, made by bench/python/segmentation_fixture.py. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { network, type EncoderInfo } from "../../graphs/encoder.js";
import { segmentationStep, segmenterModel, type SegmentationStepOptions } from "../../graphs/segmentation.js";
import { rootScope } from "../../graphs/scope.js";
import { readSafetensors } from "../../src/artifacts/safetensors.js";
import { input, type Dialect } from "../../src/onnx/graph.js";
import { ReduceL2 } from "../../src/ops/index.js";
import { scheduled } from "../../src/schedules.js";
import type { TrainingStep } from "../../src/step.js";
import { tensor, type Tensor, type Tensors } from "../../src/tensor.js";
import { imagenetStatistics } from "../../src/views.js";
import { plainOnTraining, portableEngine } from "../engine.js";
import { evaluate } from "../evaluate.js";
import { judged } from "../judged.js";
import { wave } from "./waves.js";

const expected = readSafetensors(
  readFileSync(new URL("../../../test/fixtures/segmentation.safetensors", import.meta.url)),
).tensors;
const [channels, classes, height, width] = [8, 4, 45, 52];
const waves = (s: number, shape: number[], scale = 1, shift = 0): Tensor =>
  tensor(
    "float32",
    shape,
    wave(s, shape).data.map((v) => shift + scale * v),
  );

const info: EncoderInfo = {
  backbone: "resnet18",
  options: {},
  size: 64,
  resize: 64,
  ...imagenetStatistics,
  method: "test",
  recipe: "test",
};
const optionsOf = (outputStride: number): Omit<SegmentationStepOptions, "dialect"> => ({
  info,
  classes,
  channels,
  convs: 2,
  dilation: outputStride === 8 ? 1 : 3,
  concatInput: true,
  outputStride,
  alignCorners: outputStride === 16,
  auxiliary: 0.4,
  freeze: false,
  batchSize: 2,
  height,
  width,
  dropout: 0.1,
  momentum: 0.9,
  weightDecay: 5e-4,
  headRate: 1,
  ignored: 255,
});

/** Weights by the names of a step, as the fixture's script makes them: the same at every output stride. */
let made: Tensors | undefined;
function weights(step: TrainingStep): Tensors {
  if (made) return made;
  const values = [...step.parameters.map((p) => p.value), ...step.state.map((s) => s.input)];
  const own = values.filter((v) => !v.name!.startsWith("optimizer."));
  const start = (name: string, index: number, shape: number[]): Tensor => {
    if (shape.length > 1) return waves(index, shape, Math.sqrt(4 / shape.slice(1).reduce((a, b) => a * b, 1)));
    return waves(index, shape, 0.3, /(weight|running_var)$/.test(name) ? 1 : 0);
  };
  const sorted = own.sort((a, b) => (a.name! < b.name! ? -1 : 1));
  return (made = Object.fromEntries(sorted.map((v, i) => [v.name!, start(v.name!, i, v.shape as number[])])));
}
const feeds: Tensors = {
  image: waves(1, [2, 3, height, width], 0.5, 0.5),
  labels: tensor(
    "int64",
    [2, height, width],
    Array.from({ length: 2 * height * width }, (_, i) => {
      const [n, y, x] = [Math.floor(i / (height * width)), Math.floor(i / width) % height, i % width];
      const label = (Math.floor(y / 7) + Math.floor(x / 5) + n) % (classes + 1);
      return label === classes ? 255 : label;
    }),
  ),
  "decode_head.dropout": waves(2, [2, channels, 1, 1], 1, 1),
  "auxiliary_head.dropout": waves(3, [2, channels / 2, 1, 1], 1, 1),
};

function near(got: Tensor["data"] | number[], want: Tensor, tolerance: number, what: string): void {
  const numbers = [...want.data].map(Number);
  const scale = Math.max(...numbers.map(Math.abs));
  assert.equal(got.length, numbers.length, what);
  const off = Math.max(...numbers.map((v, i) => Math.abs(v - Number(got[i]))));
  assert.ok(off <= tolerance * scale, `${what}: off by ${off} where the largest is ${scale}`);
}

describe("the segmenter", function () {
  this.timeout(120_000);
  const engines: Record<Dialect, () => Promise<Parameters<typeof evaluate>[0]>> = {
    training: plainOnTraining,
    portable: () => Promise.resolve(portableEngine()),
  };
  for (const [stride, dialect] of [
    [8, "training"],
    [16, "training"],
    [16, "portable"],
  ] as const)
    it(`has torch's loss and gradients at output stride ${stride}, ${dialect}`, async () => {
      const step = segmentationStep({ ...optionsOf(stride), dialect });
      const given = weights(step);
      const gradients = new Map([...step.gradients].map(([p, g]) => [p.name, g]));
      const names = [...gradients.keys()].sort();
      const whole = Object.keys(expected).flatMap((k) =>
        k.startsWith(`${stride}.`) ? [k.slice(`${stride}.`.length)] : [],
      );
      const shown = whole.filter((name) => gradients.has(name));
      assert.equal(shown.length, 5);
      const out = await evaluate(
        await engines[dialect](),
        [...step.inputs, ...step.parameters.map((p) => p.value), ...step.state.map((s) => s.input)].filter(
          (v) => v.name! in given || v.name! in feeds,
        ),
        {
          loss: step.loss,
          ...Object.fromEntries(names.map((n, i) => [`norm${i}`, ReduceL2(gradients.get(n)!, { keepdims: 0 })])),
          ...Object.fromEntries(shown.map((n) => [`grad.${n}`, gradients.get(n)!])),
        },
        { ...given, ...feeds },
      );
      near(out.loss!.data, expected[`${stride}.loss`]!, 1e-5, "loss");
      for (const name of shown) near(out[`grad.${name}`]!.data, expected[`${stride}.${name}`]!, 1e-3, name);
      names.forEach((name, i) => {
        const [got, want] = [Number(out[`norm${i}`]!.data[0]), Number(expected[`${stride}.norms`]!.data[i])];
        assert.ok(Math.abs(got - want) < 1e-3 * want + 1e-6, `‖${name}‖ is ${got}, torch's ${want}`);
      });
    });

  for (const stride of [8, 16])
    it(`answers as torch does from one file in onnxruntime-node, at output stride ${stride}`, () => {
      const options = optionsOf(stride);
      const given = weights(segmentationStep({ ...options, dialect: "training" }));
      const dir = mkdtempSync(join(tmpdir(), "segmenter-"));
      writeFileSync(join(dir, "segmenter.onnx"), segmenterModel(info, options, ["a", "b", "c", "d"], given));
      const image = feeds.image!;
      const { logits, labels } = judged(join(dir, "segmenter.onnx"), image);
      rmSync(dir, { recursive: true });
      assert.deepEqual(logits!.dims, [2, classes, height, width]);
      assert.deepEqual(labels!.dims, [2, height, width]);
      const first = logits!.data.slice(0, classes * height * width);
      near(first, expected[`${stride}.full`]!, 1e-4, "logits");
      for (let i = 0; i < height * width; i++) {
        const of = (c: number): number => first[c * height * width + i]!;
        assert.ok([0, 1, 2, 3].every((c) => of(c) <= of(Number(labels!.data[i]))));
      }
    });

  it("trains the heads alone over a frozen backbone", () => {
    const step = segmentationStep({ ...optionsOf(16), freeze: true, dialect: "training" });
    const trained = [...step.updates.keys()].map((p) => p.name);
    assert.ok(trained.length > 0 && trained.every((name) => /^(decode|auxiliary)_head\./.test(name)));
    for (const { name, input, ...moves } of step.state)
      if (name.startsWith("backbone.")) assert.equal("next" in moves && moves.next, input, name);
  });
});

describe("an output stride", () => {
  const mapOf = (name: "resnet18" | "resnet50", options: object) => {
    const { scope, collected } = rootScope("portable", "eval");
    const own = network(name, options);
    const { map } = own.backbone.forward(scope, input("image", "float32", [1, 3, 64, 64]), own.options);
    return { cells: map.shape[2], names: [...collected.parameters.keys()] };
  };
  it("is kept by dilation, with the weights of the same names", () => {
    for (const name of ["resnet18", "resnet50"] as const) {
      const plain = mapOf(name, {});
      assert.equal(plain.cells, 2);
      for (const outputStride of [8, 16]) assert.deepEqual(mapOf(name, { outputStride }), { cells: 64 / outputStride, names: plain.names }); // prettier-ignore
    }
  });
  it("counts from a cifar stem's own", () => {
    assert.equal(mapOf("resnet18", { stem: "cifar" }).cells, 8);
    assert.equal(mapOf("resnet18", { stem: "cifar", outputStride: 8 }).cells, 8);
    assert.equal(mapOf("resnet18", { stem: "cifar", outputStride: 4 }).cells, 16);
  });
});

describe("the poly schedule", () => {
  const horizon = { stepsPerEpoch: 5, epochs: 20 };
  it("falls from the peak to the end as mmcv's", () => {
    const at = (step: number) => scheduled({ schedule: "poly", peak: 0.01, end: 1e-4 }, step, horizon);
    assert.equal(at(0), 0.01);
    assert.ok(Math.abs(at(50) - (1e-4 + 0.0099 * Math.exp(-0.9 * Math.LN2))) < 1e-12);
    assert.ok(Math.abs(at(100) - 1e-4) < 1e-12);
  });
  it("is a straight line at power 1", () => {
    const at = (step: number) => scheduled({ schedule: "poly", peak: 2, power: 1 }, step, horizon);
    assert.deepEqual([0, 25, 75].map(at), [2, 1.5, 0.5]);
  });
});
