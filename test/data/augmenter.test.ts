import assert from "node:assert/strict";
import { augmentation, draw } from "../../graphs/augment.js";
import { mocoView } from "../../graphs/methods/mocov2.js";
import { augmenter } from "../../src/data/augmenter.js";
import type { Image } from "../../src/data/index.js";
import { openEngine } from "../../src/engines/native/index.js";
import { random } from "../../src/random.js";
import { bytesOf, sizeOf } from "../../src/tensor.js";
import type { Pixels } from "../../src/views.js";
import { trainingEngine } from "../engine.js";

const noise = (width: number, height: number): Image => {
  const r = random(0, "noise", width, height);
  return { width, height, data: Uint8Array.from({ length: 3 * width * height }, () => r.integer(256)) };
};
const images = Array.from({ length: 24 }, (_, i) => noise(40 + 3 * i, 90 - 2 * i));
const view = mocoView(48, { solarize: { p: 0.2 } });

/** The views of images first…first+n−1 as bytes, each drawn by its own number. */
async function views(pixels: Pixels, threads: number, first: number, n: number): Promise<Uint8Array[]> {
  const engine = openEngine({ library: (await trainingEngine()).library, name: "training", threads });
  const aug = augmenter(engine, (v) => augmentation(v, pixels));
  const { views: out } = await aug.batch(images.slice(first, first + n), [view], (v, copy, i) =>
    draw(random(1, "view", first + i, copy), images[first + i]!, v),
  );
  aug.release();
  const bytes = sizeOf(out!.shape.slice(2)) * 4;
  return Array.from({ length: 2 * n }, (_, i) => bytesOf(out!).slice(i * bytes, (i + 1) * bytes));
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
});
