import assert from "node:assert/strict";
import { augmentation, draw, type Draw } from "../../graphs/augment.js";
import { mocoView } from "../../graphs/methods/mocov2.js";
import { augmenter } from "../../src/data/augmenter.js";
import type { Image } from "../../src/data/index.js";
import { openEngine, type EngineOptions } from "../../src/engines/native/index.js";
import { random } from "../../src/random.js";
import { bytesOf, sizeOf } from "../../src/tensor.js";
import { viewOf, type Channels, type Pixels } from "../../src/views.js";
import { trainingEngine } from "../engine.js";

const noise = (width: number, height: number): Image => {
  const r = random(0, "noise", width, height);
  return { width, height, data: Uint8Array.from({ length: 3 * width * height }, () => r.integer(256)) };
};
const images = Array.from({ length: 24 }, (_, i) => noise(40 + 3 * i, 90 - 2 * i));
const view = mocoView(48, { solarize: { p: 0.2 } });

/** The views of images first…first+n−1 as bytes, each drawn by its own number. */
async function views(
  pixels: Pixels,
  threads: number,
  first: number,
  n: number,
  memory: EngineOptions["memory"] = "host",
): Promise<Uint8Array[]> {
  const engine = openEngine({ library: (await trainingEngine()).library, name: "training", threads, memory });
  const aug = augmenter(engine, (v) => augmentation(v, pixels));
  const { views: out } = await aug.batch(images.slice(first, first + n), [view], (v, copy, i) =>
    draw(random(1, "view", first + i, copy), images[first + i]!, v),
  );
  const all = bytesOf(await out!.read());
  for (const part of [out!, aug]) part.release();
  const bytes = sizeOf(out!.shape.slice(2)) * 4;
  return Array.from({ length: 2 * n }, (_, i) => all.slice(i * bytes, (i + 1) * bytes));
}

describe("views made together", () => {
  for (const pixels of ["float", "pil"] as const)
    it(`are bit for bit those made one by one, on one thread or two (${pixels})`, async () => {
      const n = images.length;
      const together = await views(pixels, 2, 0, n);
      for (const i of [0, 7, 23]) {
        const alone = await views(pixels, 1, i, 1);
        assert.deepEqual(alone, [together[i], together[n + i]], `image ${i}`);
      }
      assert.deepEqual((await views(pixels, 1, 0, n)).map(Buffer.from), together.map(Buffer.from));
    });
  it("in a device's memory are those made in the host's", async () => {
    for (const n of [1, images.length])
      assert.deepEqual(
        (await views("float", 2, 0, n, "device")).map(Buffer.from),
        (await views("float", 1, 0, n)).map(Buffer.from),
      );
  });
});

describe("views of grey images and of images with alpha", () => {
  const [width, height] = [60, 50];
  const planes = noise(width, height).data;
  const n = width * height;
  const joined = (...all: Uint8Array[]): Image => ({ width, height, data: Uint8Array.from(Buffer.concat(all)) });
  const [r, g, b] = [0, 1, 2].map((c) => planes.subarray(c * n, (c + 1) * n)) as [Uint8Array, Uint8Array, Uint8Array];
  const alpha = b.toReversed();
  const strong = mocoView(48, {
    jitter: { p: 1, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 },
    grey: 0,
    blur: { p: 1, sigma: [1, 2] },
    solarize: { p: 1 },
    normalize: undefined,
  });
  const drawn = (channels: Channels, i: number): Draw =>
    draw(random(2, "view", i), { width, height }, viewOf(strong, channels));

  /** The planes of one view, as PIL makes it. */
  async function planesOf(image: Image, channels: Channels, d: Draw): Promise<Buffer[]> {
    const spec = viewOf({ ...strong, count: 1 }, channels);
    const aug = augmenter(await trainingEngine(), (v) => augmentation(v, "pil"));
    const { views: out } = await aug.batch([image], [spec], () => d);
    aug.release();
    const size = 4 * spec.size * spec.size;
    const bytes = bytesOf(await out!.read());
    assert.equal(bytes.length, channels * size);
    return Array.from({ length: channels }, (_, c) => Buffer.from(bytes.slice(c * size, (c + 1) * size)));
  }

  it("of one channel are a channel of the same grey in colour", async () => {
    for (let i = 0; i < 4; i++) {
      const d = drawn(1, i);
      assert.ok(d.stages.every((s) => s.op !== "hue" && s.op !== "saturation"));
      const [one] = await planesOf(joined(r), 1, d);
      for (const other of await planesOf(joined(r, r, r), 3, d)) assert.deepEqual(other, one);
    }
  });

  it("leave alpha to crops, flips and blurs alone", async () => {
    for (let i = 0; i < 4; i++) {
      const d = drawn(4, i);
      const four = await planesOf(joined(r, g, b, alpha), 4, d);
      assert.deepEqual(four.slice(0, 3), await planesOf(joined(r, g, b), 3, d));
      const moved: Draw = { ...d, stages: d.stages.filter((s) => s.op === "blur") };
      assert.deepEqual(four.slice(3), await planesOf(joined(alpha), 1, moved));
    }
  });

  it("refuse a turn of hues that are not there, and images of other channels", async () => {
    const hue: Draw = { ...drawn(1, 0), stages: [{ op: "hue", shift: 0.1 }] };
    await assert.rejects(planesOf(joined(r), 1, hue), /one channel has no hue/);
    await assert.rejects(planesOf(joined(r, g, b), 1, drawn(1, 0)), /View views is of 1 channels, but an image has 3/);
  });
});
