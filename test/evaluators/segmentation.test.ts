import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { byClass, evaluatorNamed, judged, table } from "../../cli/evaluate.js";
import { resolveOptions } from "../../cli/options.js";
import { answerSheet, labelColour } from "../../evaluators/segmentation/picture.js";
import { encoderModel, initialWeights } from "../../graphs/encoder.js";
import type { BackboneName } from "../../graphs/backbones/index.js";
import { input } from "../../src/onnx/graph.js";
import { readInitializers, readModel, toModel } from "../../src/onnx/model.js";
import { Relu } from "../../src/ops/index.js";
import { openEngine, type NativeEngine } from "../../src/engines/native/index.js";
import { random } from "../../src/random.js";
import { tensor } from "../../src/tensor.js";
import { trainingEngine } from "../engine.js";
import { judged as answered } from "../judged.js";
import { tinyInfo } from "../tinyRun.js";

const infoOf = (backbone: BackboneName, options: object) => tinyInfo(backbone, options, { size: 32, resize: 32 });
const info = infoOf("resnet18", { width: 8 });

describe("diptych evaluate segmentation", function () {
  this.timeout(120_000);
  let dir: string;
  let engine: NativeEngine;
  const at = (...parts: string[]) => join(dir, ...parts);
  const side = 48;
  /** A dark ground with a red and a blue square: classes 0, 1, 2, and around each square a rim that does not count. */
  const scene = async (split: string, name: string): Promise<void> => {
    const r = random(0, split, name);
    const pixels = Buffer.from(Array.from({ length: 3 * side * side }, () => r.integer(60)));
    const labels = Buffer.alloc(side * side);
    for (const label of [1, 2]) {
      const [edge, left, top] = [16 + r.integer(8), 24 * (label - 1) + r.integer(2), 2 + r.integer(20)];
      for (let y = top; y < top + edge; y++)
        for (let x = left; x < Math.min(side, left + edge); x++) {
          const i = y * side + x;
          pixels[3 * i + (label === 1 ? 0 : 2)] = 220;
          const rim = y === top || y === top + edge - 1 || x === left || x === left + edge - 1;
          labels[i] = rim ? 9 : label;
        }
    }
    const raw = { width: side, height: side };
    await sharp(pixels, { raw: { ...raw, channels: 3 } }).toFile(at(`data/${split}/${name}.png`));
    await sharp(labels, { raw: { ...raw, channels: 1 } })
      .toColourspace("b-w")
      .toFile(at(`data/${split}annot/${name}.png`));
  };
  before(async () => {
    dir = mkdtempSync(join(tmpdir(), "segmentation-"));
    engine = openEngine({ library: (await trainingEngine()).library, name: "training", threads: 1 });
    for (const split of ["train", "val"])
      for (const folder of [split, `${split}annot`]) mkdirSync(at("data", folder), { recursive: true });
    for (let i = 0; i < 32; i++) await scene("train", `${i}`);
    for (let i = 0; i < 6; i++) await scene("val", `${i}`);
    writeFileSync(at("data", "classes.txt"), "ground\nred\nblue\n");
    writeFileSync(at("ours.onnx"), encoderModel(info, initialWeights(info, 1)));
  });
  after(() => rmSync(dir, { recursive: true }));

  const small = ["ignore=9", "batchSize=4", "channels=16", "crop=48,48", "ratio=1,1", "lr=0.1", "dropout=0"];
  const evaluate = async (settings: string[], encoder = "ours.onnx", more: object = {}) => {
    const evaluator = evaluatorNamed("segmentation");
    const options = resolveOptions("segmentation", evaluator, [...small, ...settings]);
    const flags = {
      data: at("data"),
      scratch: false,
      cache: false,
      patches: 1,
      "patch-scale": 1,
      say: () => undefined,
      ...more,
    };
    return judged(engine, evaluator, options, at(encoder), flags);
  };

  it("learns coloured squares, and leaves one file that onnxruntime-node runs, and a picture", async () => {
    const said: string[] = [];
    const { rows, notes } = await evaluate(["epochs=16"], "ours.onnx", {
      out: at("segmenter.onnx"),
      picture: at("answers.png"),
      say: (line: string) => said.push(line),
    });
    const { metrics, perClass } = rows[0]!;
    assert.ok(metrics.mIoU! > 80, `mIoU ${metrics.mIoU}`);
    assert.deepEqual(Object.keys(perClass!), ["ground", "red", "blue"]);
    assert.match(notes[0]!, /32 training and 6 val images, 3 classes; labels 9, 255 do not count/);
    assert.match(said.join("\n"), /epoch 16\/16: loss \d/);

    const { metadata } = readModel(readFileSync(at("segmenter.onnx")));
    assert.deepEqual(JSON.parse(metadata.classes!), ["ground", "red", "blue"]);
    const { data } = await sharp(at("data/val/0.png")).raw().toBuffer({ resolveWithObject: true });
    const image = tensor(
      "float32",
      [1, 3, side, side],
      Array.from(
        { length: 3 * side * side },
        (_, i) => data[3 * (i % (side * side)) + Math.floor(i / (side * side))]! / 255,
      ),
    );
    const { labels, logits } = answered(at("segmenter.onnx"), image);
    assert.deepEqual([labels!.dims, logits!.dims], [[1, side, side], [1, 3, side, side]]); // prettier-ignore
    const truth = await sharp(at("data/valannot/0.png")).extractChannel(0).raw().toBuffer();
    const counted = [...truth].flatMap((t, i) => (t === 9 ? [] : [Number(labels!.data[i] === t)]));
    assert.ok(counted.reduce((a, b) => a + b, 0) > 0.9 * counted.length);
    const picture = await sharp(at("answers.png")).metadata();
    assert.ok(picture.width > 3 * side && picture.height > 2 * side);
  });
  it("sets the same network from random weights beside it where asked", async () => {
    const { rows } = await evaluate(["epochs=1"], "ours.onnx", { scratch: true });
    assert.deepEqual(
      rows.map((r) => r.name),
      ["trained on", "from scratch"],
    );
    assert.match(table(byClass(rows)), /^ +trained on +from scratch\nground +\d/);
  });
  it("leaves a frozen backbone as it came, statistics included", async () => {
    await evaluate(["epochs=1", "freeze=true", "convs=0"], "ours.onnx", { out: at("frozen.onnx") });
    const after = readInitializers(readFileSync(at("frozen.onnx")));
    for (const [name, before] of Object.entries(initialWeights(info, 1)))
      assert.deepEqual(after[`backbone.${name}`], before, name);
    assert.notEqual(Math.max(...(after["decode_head.conv_seg.bias"]!.data as Float32Array)), 0);
  });
  it("squeezes images to a size where asked", async () => {
    const { rows, notes } = await evaluate(["epochs=1", "squeeze=true", "crop=32,64"]);
    assert.match(notes[1]!, /squeezed to the crop, times 1–1, crops of 32 × 64/);
    assert.ok(rows[0]!.metrics.pixelAccuracy! > 0);
  });
  it("judges a backbone of one size on squares of it", async () => {
    const vit = infoOf("vitTiny", { embedDim: 32, depth: 2, numHeads: 2, patchSize: 4 });
    writeFileSync(at("vit.onnx"), encoderModel(vit, initialWeights(vit, 0)));
    const { rows } = await evaluate(["epochs=1"], "vit.onnx");
    assert.ok(rows[0]!.metrics.pixelAccuracy! > 0);
  });
  it("says the same again from the same seed", async () => {
    const once = async (seed: number) => {
      await evaluate(["epochs=1", "dropout=0.5", `seed=${seed}`], "ours.onnx", { out: at("again.onnx") });
      return readFileSync(at("again.onnx"));
    };
    const [first, again, other] = [await once(3), await once(3), await once(4)];
    assert.ok(first.equals(again));
    assert.ok(!first.equals(other));
  });
  it("answers what it cannot judge with a sentence", async () => {
    const image = input("image", "float32", ["N", 3, 32, 32]);
    writeFileSync(at("foreign.onnx"), toModel({ inputs: [image], outputs: { map: Relu(image) } }));
    await assert.rejects(evaluate([], "foreign.onnx"), /foreign\.onnx carries no network of ours, only a graph/);
    await assert.rejects(evaluate(["ratio=1"]), /Expected two numbers for ratio but received 1\./);
    await assert.rejects(evaluate(["freeze=maybe"]), /Unknown freeze "maybe"/);
    await assert.rejects(evaluate([], "ours.onnx", { data: at("nowhere") }), /There is no folder/);
  });
  it("meets a broken test image before it trains, and leaves no empty file behind", async () => {
    cpSync(at("data"), at("cut"), { recursive: true });
    const whole = readFileSync(at("cut/val/0.png"));
    writeFileSync(at("cut/val/0.png"), whole.subarray(0, whole.length / 2));
    const said: string[] = [];
    const more = { data: at("cut"), out: at("cut.onnx"), say: (line: string) => said.push(line) };
    await assert.rejects(evaluate([], "ours.onnx", more), /val.0\.png cannot be read: /);
    assert.deepEqual(said, []);
    assert.ok(!existsSync(at("cut.onnx")));
  });
});

describe("the picture of answers", () => {
  it("colours labels as VOC does", () => {
    assert.deepEqual([0, 1, 2, 15, 20, 255].map(labelColour), [
      [0, 0, 0],
      [128, 0, 0],
      [0, 128, 0],
      [192, 128, 128],
      [0, 64, 128],
      [255, 255, 255],
    ]);
  });
  it("puts the answer between the photograph and the truth", () => {
    const labels = (v: number) => ({ width: 2, height: 1, labels: Uint16Array.of(v, v) });
    const image = { width: 2, height: 1, data: Uint8Array.from([7, 7, 8, 8, 9, 9]) };
    const sheet = answerSheet([{ image, prediction: labels(1), truth: labels(2) }]);
    const pixel = (x: number, y: number) => [0, 1, 2].map((c) => sheet.data[(c * sheet.height + y) * sheet.width + x]);
    assert.deepEqual([sheet.width, sheet.height], [30, 13]);
    assert.deepEqual([pixel(6, 6), pixel(14, 6), pixel(22, 6)], [[7, 8, 9], [128, 0, 0], [0, 128, 0]]); // prettier-ignore
    assert.deepEqual(pixel(0, 0), [255, 255, 255]);
  });
});
