/** The detector beside torchvision's FCOS: test/fixtures/fcos.safetensors, made by bench/python/detection_fixture.py. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import {
  boxesOf,
  detectionsOf,
  detector,
  distancesOf,
  fcosHead,
  fcosLosses,
  featurePyramid,
  focalLoss,
  giouLoss,
  locationsOf,
  targetsOf,
} from "../../graphs/detection/index.js";
import { rootScope } from "../../graphs/scope.js";
import { readSafetensors } from "../../src/artifacts/safetensors.js";
import { gradients } from "../../src/autodiff.js";
import { constant, input, type Dialect, type Value } from "../../src/onnx/graph.js";
import { Add, Reshape } from "../../src/ops/index.js";
import { random } from "../../src/random.js";
import { tensor, zeros, type Tensor, type Tensors } from "../../src/tensor.js";
import { plainOnTraining, portableEngine } from "../engine.js";
import { evaluate } from "../evaluate.js";

const fixture = readSafetensors(readFileSync(new URL("../../../test/fixtures/fcos.safetensors", import.meta.url)));
const expected = fixture.tensors;
type Named = [name: string, shape: number[]][];
const named = (key: string): Named => JSON.parse(fixture.metadata[key]!) as Named;

const [channels, classes, convs, height, width] = [32, 3, 2, 96, 160];

/** −1 … 1, by the last step of MurmurHash3 on i + 65536·seed: the numbers that the fixture's script draws. */
function drawn(seed: number, shape: readonly number[], scale = 1, shift = 0): Tensor<"float32"> {
  const t = zeros("float32", shape);
  for (let i = 0; i < t.data.length; i++) {
    let h = (i + seed * 65536) >>> 0;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b) >>> 0;
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35) >>> 0;
    h = (h ^ (h >>> 16)) >>> 0;
    t.data[i] = Math.fround(Math.fround(h / 2 ** 31 - 1) * Math.fround(scale)) + shift;
  }
  return t;
}

function near(got: Tensor | undefined, want: Tensor, tolerance: number, what: string): void {
  assert.deepEqual([...got!.shape], [...want.shape], what);
  const scale = Math.max(...[...want.data].map((v) => Math.abs(Number(v))), 1e-3);
  const off = Math.max(...[...want.data].map((v, i) => Math.abs(Number(v) - Number(got!.data[i]))), 0);
  assert.ok(off <= tolerance * scale, `${what}: off by ${off} where the largest is ${scale}`);
}

const integers = (t: Tensor): number[] => [...t.data].map(Number);

/** Boxes and labels of two images, padded to four objects. */
const objects: Tensors = {
  boxes: tensor(
    "float32",
    [2, 4, 4],
    [
      [4, 6, 40, 50],
      [10, 10, 34, 42],
      [50.5, 3.25, 155, 90],
      [20, 30, 27, 36],
      [0, 0, 160, 96],
      [30, 8, 58, 33],
      [0, 0, 0, 0],
      [0, 0, 0, 0],
    ].flat(),
  ),
  labels: tensor("int64", [2, 4], [0, 2, 1, 2, 1, 0, -1, -1]),
};

/** Pyramid and head on maps of a backbone that is not there. */
function built(dialect: Dialect) {
  const { scope, collected } = rootScope(dialect);
  const origin = { path: "", dialect };
  const maps = [8, 12, 16].map((c, i) =>
    input(`c${3 + i}`, "float32", [2, c, height >> (3 + i), width >> (3 + i)], origin),
  );
  const boxes = input("boxes", "float32", [2, 4, 4], origin);
  const labels = input("labels", "int64", [2, 4], origin);
  const pyramid = featurePyramid(scope.child("fpn"), maps, channels);
  const predicted = fcosHead(scope.child("head"), pyramid, classes, convs);
  const locations = locationsOf(pyramid, height, width);
  const targets = targetsOf(locations, { boxes, labels });
  const losses = fcosLosses(predicted, targets, locations);
  const parameters = named("parameters").map(([name, shape]) => {
    const p = collected.parameters.get(name);
    assert.deepEqual(p?.value.shape, shape, name);
    return p!;
  });
  assert.equal(collected.parameters.size, parameters.length);
  const feeds: Tensors = {
    ...objects,
    ...Object.fromEntries(maps.map((v, i) => [v.name!, drawn(1000 + i, v.shape as number[])])),
    ...Object.fromEntries(
      parameters.map((p, seed) => [
        p.name,
        drawn(seed, p.value.shape as number[], p.value.shape.length > 1 ? 0.1 : 0.5),
      ]),
    ),
  };
  return {
    inputs: [...maps, boxes, labels, ...parameters.map((p) => p.value)],
    pyramid,
    predicted,
    targets,
    losses,
    parameters,
    feeds,
  };
}

describe("the detector beside torchvision's FCOS", () => {
  it("has the parameters and statistics of fcos_resnet50_fpn, name by name", () => {
    const { scope, collected } = rootScope("portable", "eval");
    const info = { backbone: "resnet50", options: {}, size: 64, resize: 64, mean: [0, 0, 0], std: [1, 1, 1] } as const;
    const image = input("image", "float32", [1, 3, 64, 64]);
    detector(scope, image, {
      info: { ...info, method: "", recipe: "" },
      classes: 91,
      height: 64,
      width: 64,
      channels: 256,
      convs: 4,
    });
    const own = [
      ...[...collected.parameters].map(([name, p]) => [name, p.value.shape]),
      ...[...collected.states].map(([name, s]) => [name, s.input.shape]),
    ];
    const byName = (a: unknown[], b: unknown[]): number => (String(a[0]) < String(b[0]) ? -1 : 1);
    assert.deepEqual(own.sort(byName), named("resnet50").sort(byName));
  });
  for (const dialect of ["portable", "training"] as const)
    it(`gives its pyramid, predictions, targets, losses and gradients (${dialect})`, async () => {
      const { inputs, pyramid, predicted, targets, losses, parameters, feeds } = built(dialect);
      const total = Object.values(losses).reduce((a, b) => Add(a, b));
      const found = gradients(
        total,
        parameters.map((p) => p.value),
      );
      const engine = dialect === "training" ? await plainOnTraining() : portableEngine();
      const got = await evaluate(
        engine,
        inputs,
        {
          ...Object.fromEntries(pyramid.map((p, i) => [`p${3 + i}`, p])),
          cls_logits: predicted.logits,
          bbox_regression: predicted.distances,
          bbox_ctrness: predicted.centerness,
          object: targets.object,
          "loss.classification": Reshape(losses.classification, [1]),
          "loss.bbox_regression": Reshape(losses.regression, [1]),
          "loss.bbox_ctrness": Reshape(losses.centerness, [1]),
          ...Object.fromEntries(parameters.map((p, i) => [`gradient.${p.name}`, found[i]!])),
        },
        feeds,
      );
      for (const name of ["p3", "p4", "p5", "p6", "p7", "cls_logits", "bbox_regression", "bbox_ctrness"])
        near(got[name], expected[name]!, 2e-5, name);
      assert.deepEqual(integers(got.object!), integers(expected.matched!));
      for (const name of ["loss.classification", "loss.bbox_regression", "loss.bbox_ctrness"])
        near(got[name], expected[name]!, 2e-5, name);
      for (const name of ["fpn.inner_blocks.0.0.weight", "head.regression_head.bbox_reg.weight"])
        near(got[`gradient.${name}`], expected[`whole.${name}`]!, 1e-4, name);
      const rounding = 1e-5; // all that is left of a bias under a GroupNorm of one channel a group
      parameters.forEach(({ name }, seed) => {
        const g = got[`gradient.${name}`]!;
        const direction = drawn(2000 + seed, g.shape);
        const [product, norm] = [...expected[`gradient.${name}`]!.data].map(Number) as [number, number];
        const inner = [...g.data].reduce<number>((s, v, i) => s + Number(v) * direction.data[i]!, 0);
        const length = Math.hypot(...[...g.data].map(Number));
        assert.ok(Math.abs(length - norm) <= 1e-4 * norm + rounding, `‖g‖ of ${name}: ${length}, expected ${norm}`);
        assert.ok(
          Math.abs(inner - product) <= 2e-4 * norm + rounding,
          `⟨g, v⟩ of ${name}: ${inner}, expected ${product}`,
        );
      });
    });
  it("matches objects of all sizes to locations of all levels, and none where there are none", async () => {
    const { locations, crowd, feeds } = crowded();
    const { object } = await evaluate(
      portableEngine(),
      Object.values(crowd),
      { object: targetsOf(locations, crowd).object },
      feeds,
    );
    assert.deepEqual(integers(object!), integers(expected.crowdMatched!));
  });
  it("decodes boxes, suppresses and ranks as it does", async () => {
    const { pyramid } = built("portable");
    const locations = locationsOf(pyramid, height, width);
    const total = locations.counts.reduce((a, b) => a + b);
    const shapes = { logits: [1, total, classes], distances: [1, total, 4], centerness: [1, total, 1] };
    const predicted = {
      logits: input("logits", "float32", shapes.logits),
      distances: input("distances", "float32", shapes.distances),
      centerness: input("centerness", "float32", shapes.centerness),
    };
    const distances = drawn(3001, shapes.distances, 3, 1);
    distances.data.forEach((v, i) => (distances.data[i] = Math.max(0, v)));
    const limits = { scoreThreshold: 0.3, nmsThreshold: 0.6, candidates: 120, maxDetections: 60 };
    const got = await evaluate(
      portableEngine(),
      Object.values(predicted),
      {
        decoded: boxesOf(predicted.distances, locations),
        ...detectionsOf(predicted, locations, { height, width, ...limits }),
      },
      { logits: drawn(3000, shapes.logits, 3), distances, centerness: drawn(3002, shapes.centerness, 2) },
    );
    near(got.decoded, expected.decoded!, 1e-6, "decoded");
    assert.deepEqual(integers(got.labels!), integers(expected["detected.labels"]!));
    near(got.scores, expected["detected.scores"]!, 1e-6, "scores");
    near(got.boxes, expected["detected.boxes"]!, 1e-6, "boxes");
  });
});

describe("the detector's parts", () => {
  const values = async (build: (a: Value, b: Value) => Value, a: Tensor, b: Tensor): Promise<number[]> => {
    const inputs = [input("a", "float32", a.shape), input("b", "float32", b.shape)] as const;
    const { y } = await evaluate(portableEngine(), inputs, { y: build(...inputs) }, { a, b });
    return [...y!.data].map(Number);
  };
  const close = (got: number[], want: number[]): void => {
    const off = want.findIndex((v, i) => !(Math.abs(got[i]! - v) < 1e-5));
    assert.ok(off < 0, `[${off}] is ${got[off]}, expected ${want[off]}`);
  };

  it("lose 1 − GIoU: 0 on the box itself, 1/2 on its half, 4/3 across a gap as wide as the boxes", async () => {
    const a = tensor("float32", [3, 4], [0, 0, 2, 2, 0, 0, 2, 2, 0, 0, 1, 1]);
    const b = tensor("float32", [3, 4], [0, 0, 2, 2, 0, 0, 1, 2, 2, 0, 3, 1]);
    close(await values(giouLoss, a, b), [0, 1 / 2, 4 / 3]);
    close(await values(giouLoss, b, a), [0, 1 / 2, 4 / 3]);
  });
  it("lose log 2 times α/4 where nothing is known, and little where all is right", async () => {
    const x = tensor("float32", [4], [0, 0, 8, -8]);
    const t = tensor("float32", [4], [1, 0, 1, 0]);
    close(await values(focalLoss, x, t), [Math.LN2 / 16, (3 * Math.LN2) / 16, 0, 0]);
  });
  it("find again the distances from which boxes were made", async () => {
    const { locations } = crowded();
    const total = locations.counts.reduce((a, b) => a + b);
    const distances = drawn(7, [1, total, 4], 5, 6);
    const got = await values(
      (d) => distancesOf(boxesOf(d, locations), locations),
      distances,
      tensor("float32", [1], [0]),
    );
    close(got, [...distances.data]);
  });
  it("match as plain loops do", async () => {
    const { locations, crowd } = crowded();
    const r = random(0, "boxes");
    const boxes = tensor(
      "float32",
      [2, 14, 4],
      Array.from({ length: 28 }, () => {
        const [x, y, w, h] = [r.integer(500), r.integer(370), 4 + r.integer(300), 4 + r.integer(300)];
        return [x, y, x + w, y + h];
      }).flat(),
    );
    const labels = tensor("int64", [2, 14], Array.from({ length: 28 }, () => r.integer(4) - 1)); // prettier-ignore
    const { object, label } = await evaluate(
      portableEngine(),
      Object.values(crowd),
      { object: targetsOf(locations, crowd).object, label: targetsOf(locations, crowd).labels },
      { boxes, labels },
    );
    const levels = [
      { stride: 8, h: 48, w: 64, from: 0, to: 64 },
      { stride: 16, h: 24, w: 32, from: 64, to: 128 },
      { stride: 32, h: 12, w: 16, from: 128, to: 256 },
      { stride: 64, h: 6, w: 8, from: 256, to: 512 },
      { stride: 128, h: 3, w: 4, from: 512, to: Infinity },
    ];
    const want: number[] = [];
    for (let b = 0; b < 2; b++)
      for (const { stride, h, w, from, to } of levels)
        for (let y = 0; y < h * stride; y += stride)
          for (let x = 0; x < w * stride; x += stride) {
            let [best, smallest] = [-1, Infinity];
            for (let m = 0; m < 14; m++) {
              const [x1, y1, x2, y2] = [...boxes.data.slice(4 * (14 * b + m), 4 * (14 * b + m) + 4)] as [number, number, number, number]; // prettier-ignore
              const sides = [x - x1, y - y1, x2 - x, y2 - y];
              const middle = Math.abs(x - (x1 + x2) / 2) < 1.5 * stride && Math.abs(y - (y1 + y2) / 2) < 1.5 * stride;
              const far = Math.max(...sides);
              const area = Math.fround(1e8 - (x2 - x1) * (y2 - y1)); // as fine as float32 tells them apart
              if (labels.data[14 * b + m]! >= 0n && middle && Math.min(...sides) > 0 && far > from && far < to && -area < smallest) [best, smallest] = [m, -area]; // prettier-ignore
            }
            want.push(best);
          }
    assert.deepEqual(integers(object!), want);
    assert.ok(want.some((m) => m >= 0));
    const perImage = want.length / 2;
    assert.deepEqual(
      integers(label!),
      want.map((m, i) => (m < 0 ? -1 : Number(labels.data[14 * Math.floor(i / perImage) + m]))),
    );
  });
  it("detect nothing where no score is above the threshold", async () => {
    const { locations } = crowded();
    const total = locations.counts.reduce((a, b) => a + b);
    const predicted = {
      logits: input("logits", "float32", [1, total, classes]),
      distances: input("distances", "float32", [1, total, 4]),
      centerness: input("centerness", "float32", [1, total, 1]),
    };
    const limits = { scoreThreshold: 0.6, nmsThreshold: 0.6, candidates: 100, maxDetections: 10 };
    const got = await evaluate(
      portableEngine(),
      Object.values(predicted),
      { ...detectionsOf(predicted, locations, { height: 384, width: 512, ...limits }) },
      Object.fromEntries(Object.values(predicted).map((v) => [v.name!, zeros("float32", v.shape as number[])])),
    );
    assert.deepEqual([got.boxes!.shape, got.scores!.shape, got.labels!.shape], [[0, 4], [0], [0]]);
  });
});

/** Fourteen objects on a large image, and an image without. */
function crowded() {
  const sizes = [
    [48, 64],
    [24, 32],
    [12, 16],
    [6, 8],
    [3, 4],
  ];
  const pyramid = sizes.map(([h, w]) => constant([1, 1, h!, w!], Array<number>(h! * w!).fill(0)));
  const boxes = zeros("float32", [2, 14, 4]);
  boxes.data.set(expected.crowd!.data as Float32Array);
  const labels = tensor("int64", [2, 14], [...Array<number>(14).fill(5), ...Array<number>(14).fill(-1)]);
  return {
    locations: locationsOf(pyramid, 384, 512),
    crowd: { boxes: input("boxes", "float32", [2, 14, 4]), labels: input("labels", "int64", [2, 14]) },
    feeds: { boxes, labels },
  };
}
