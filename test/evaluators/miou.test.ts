import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import sharp from "sharp";
import { interior, miou } from "../../evaluators/miou.js";
import { readLabelPng, type LabelMap } from "../../src/data/labelPng.js";

const map = (width: number, height: number, labels: number[]): LabelMap => ({
  width,
  height,
  labels: Uint16Array.from(labels),
});
const score = (truth: LabelMap, prediction: LabelMap, options = {}) =>
  miou([{ name: "a", truth, prediction }], options);

describe("mIoU", () => {
  it("is what counting by hand gives", () => {
    const result = score(map(4, 1, [0, 0, 1, 255]), map(4, 1, [0, 1, 1, 1]));
    assert.deepEqual(result.iou, [50, 50]);
    assert.deepEqual(result.confusion, [
      [1, 1, 0],
      [0, 1, 0],
    ]);
    assert.equal(result.miou, 50);
    assert.ok(Math.abs(result.pixelAccuracy - 200 / 3) < 1e-12);
    assert.equal(result.meanAccuracy, 75);
  });
  it("leaves classes that do not occur out of the mean", () =>
    assert.deepEqual(
      [score(map(2, 1, [0, 3]), map(2, 1, [0, 3])).iou, score(map(2, 1, [0, 3]), map(2, 1, [0, 3])).miou],
      [[100, null, null, 100], 100],
    ));
  it("equals intersections over unions of sets, whatever the maps", () =>
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom(0, 1, 2, 255), fc.constantFrom(0, 1, 2, 255)), { minLength: 1 }),
        (pixels) => {
          const [t, p] = [pixels.map(([a]) => a), pixels.map(([, b]) => b)];
          const { iou } = score(map(t.length, 1, t), map(p.length, 1, p), { classes: 3 });
          for (const c of [0, 1, 2]) {
            const set = (labels: number[]) => new Set(labels.flatMap((l, i) => (l === c && t[i] !== 255 ? [i] : [])));
            const union = new Set([...set(t), ...set(p)]).size;
            const both = [...set(t)].filter((i) => set(p).has(i)).length;
            assert.equal(iou[c], union ? (100 * both) / union : null);
          }
        },
      ),
    ));
  it("takes as interior the pixels whose whole neighbourhood has their label", () =>
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 1 }), { minLength: 63, maxLength: 63 }), (labels) => {
        const own = map(
          9,
          7,
          labels.map((l, i) => (i % 9 < 5 ? 0 : l)),
        );
        const naive = Array.from(own.labels, (label, i) => {
          const [x, y] = [i % 9, Math.floor(i / 9)];
          for (let dy = -1; dy <= 1; dy++)
            for (let dx = -1; dx <= 1; dx++) {
              const [u, v] = [x + dx, y + dy];
              if (u < 0 || v < 0 || u >= 9 || v >= 7 || own.labels[v * 9 + u] !== label) return 0;
            }
          return 1;
        });
        assert.deepEqual([...interior(own)], naive);
      }),
    ));
  it("scores borders alone lower where only they are wrong", () => {
    const square = (from: number, to: number) =>
      map(
        40,
        40,
        Array.from({ length: 1600 }, (_, i) => Number(i % 40 >= from && i % 40 < to)),
      );
    const { miou, boundaryMiou } = score(square(10, 30), square(9, 31), { boundary: true });
    assert.ok(boundaryMiou! < miou && miou < 100);
    assert.equal(score(square(10, 30), square(10, 30), { boundary: true }).boundaryMiou, 100);
  });
  it("answers maps of two sizes, and labels beyond the classes, with a sentence", () => {
    assert.throws(
      () => score(map(2, 1, [0, 0]), map(1, 2, [0, 0])),
      /The prediction for a is 1 × 2, its truth 2 × 1\./,
    );
    assert.throws(
      () => score(map(1, 1, [7]), map(1, 1, [0]), { classes: 2 }),
      /The truth of a has label 7; 2 classes are 0 to 1\./,
    );
  });
});

describe("label PNGs", () => {
  let dir: string;
  before(() => (dir = mkdtempSync(join(tmpdir(), "labels-"))));
  after(() => rmSync(dir, { recursive: true }));
  const values = Array.from({ length: 35 }, (_, i) => (i * 7) % 16);

  it("come back as their grey values, whatever the row filters", async () => {
    const path = join(dir, "grey.png");
    for (const adaptiveFiltering of [true, false]) {
      await sharp(Uint8Array.from(values), { raw: { width: 7, height: 5, channels: 1 } })
        .toColourspace("b-w")
        .png({ adaptiveFiltering })
        .toFile(path);
      assert.deepEqual([...readLabelPng(path).labels], values);
    }
  });
  it("come back as places in their palette", async () => {
    const path = join(dir, "palette.png");
    const colours = values.flatMap((v) => [v * 16, 255 - v * 16, 0]);
    await sharp(Uint8Array.from(colours), { raw: { width: 7, height: 5, channels: 3 } })
      .png({ palette: true, colours: 16, dither: 0 })
      .toFile(path);
    const { labels } = readLabelPng(path);
    assert.ok(Math.max(...labels) < 16);
    values.forEach((v, i) => values.forEach((w, j) => assert.equal(labels[i] === labels[j], v === w)));
  });
  it("are refused where they are coloured or no PNG", async () => {
    const path = join(dir, "colour.png");
    await sharp({ create: { width: 2, height: 2, channels: 3, background: "red" } })
      .png()
      .toFile(path);
    assert.throws(
      () => readLabelPng(path),
      /colour\.png has colours or alpha; a label PNG has a palette or grey values\./,
    );
    writeFileSync(path, "text");
    assert.throws(() => readLabelPng(path), /is no PNG\./);
  });
});
