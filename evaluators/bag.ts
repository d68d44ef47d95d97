/**
 * Bags of patches: an image as the mean of an encoder's features over patches of one scale, what BagSSL (arXiv 2206.08954, §3) and
 * EMP-SSL (evaluate.py) judge. Patches are placed at random, by seed; unlike EMP-SSL's they keep their colours.
 */
import { draw, drawCrop, type Draw } from "../graphs/augment.js";
import { bagMean } from "../graphs/knn.js";
import { subset, type Dataset, type Image } from "../src/data/dataset.js";
import type { Engine } from "../src/engines/index.js";
import { input } from "../src/onnx/graph.js";
import { toModel } from "../src/onnx/model.js";
import { random } from "../src/random.js";
import type { ViewSpec } from "../src/views.js";
import { extractFeatures, imageBatches, type Features, type Preprocessing } from "./features.js";

export interface Bag {
  /** Patches of each image; 1: the usual centre crop, no bag. */
  patches: number;
  /** Share of the image's area that a patch covers: the scale that the encoder was trained with. */
  scale: number;
}

/** Patch-images that go through the encoder before their features are averaged. */
const atOnce = 16_384;

/** What of an image is shown. */
export type Place = (image: Image, i: number) => Draw;

/** Every image `count` times, copy by copy, and which image and copy is at i. */
function copies(data: Dataset, count: number) {
  const of = (i: number) => ({ image: i % data.length, copy: Math.floor(i / data.length) });
  const all: Dataset = {
    length: count * data.length,
    key: (i) => data.key(of(i).image),
    image: (i) => data.image(of(i).image),
  };
  return { all, of };
}

/** `count` views of each image, view by view, as linear probes are trained: RandomResizedCrop of 8 to 100 % of the area, and flips. */
export function augmentedViews(data: Dataset, count: number, size: number, seed = 0): { all: Dataset; place: Place } {
  const { all, of } = copies(data, count);
  const view: ViewSpec = { name: "view", count, size, crop: { scale: [0.08, 1] } };
  return { all, place: (image, i) => draw(random(seed, "view", of(i).image, of(i).copy), image, view) };
}

/** Features of every image of `data`: of its centre crop, or averaged over its patches and not normalised: rows [N, D]. */
export const featuresOf = (
  engine: Engine,
  encoder: Uint8Array,
  data: Dataset,
  p: Preprocessing,
  bag: Bag,
): Promise<Features> =>
  bag.patches > 1
    ? bagFeatures(engine, encoder, data, p, bag)
    : extractFeatures(engine, encoder, imageBatches(engine, data, p), data.length);

/** Features of every image of `data`, averaged over its patches. */
async function bagFeatures(
  engine: Engine,
  encoder: Uint8Array,
  data: Dataset,
  p: Preprocessing,
  { patches, scale }: Bag,
  seed = 0,
): Promise<Features> {
  const chunk = Math.max(1, Math.floor(atOnce / patches));
  let out: Features | undefined;
  for (let start = 0; start < data.length; start += chunk) {
    const n = Math.min(chunk, data.length - start);
    const { all, of } = copies(
      subset(
        data,
        Int32Array.from({ length: n }, (_, i) => start + i),
      ),
      patches,
    );
    const batches = imageBatches(engine, all, p, 64, ({ width, height }, i) => ({
      crop: drawCrop(random(seed, "bag", start + of(i).image, of(i).copy), width, height, {
        scale: [scale, scale],
        ratio: [1, 1],
      }),
      flip: false,
      stages: [],
    }));
    const rows = await averaged(engine, await extractFeatures(engine, encoder, batches, n * patches), patches);
    out ??= { data: new Float32Array(data.length * rows.width), length: data.length, width: rows.width };
    out.data.set(rows.data, start * rows.width);
  }
  return out!;
}

/** Features [P·N, D], patch by patch, as their means [N, D] */
async function averaged(engine: Engine, { data, length, width }: Features, patches: number): Promise<Features> {
  const n = length / patches;
  const features = input("features", "float32", [patches, n, width]);
  const session = await engine.session(toModel({ inputs: [features], outputs: { mean: bagMean(features) } }));
  const { mean } = await session.run({
    features: { dtype: "float32", shape: [patches, n, width], data: data as Float32Array<ArrayBuffer> },
  });
  session.release();
  return { data: mean!.data as Float32Array, length: n, width };
}
