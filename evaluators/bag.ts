/**
 * Bags of patches: an image as the mean of an encoder's features over patches of one scale, what BagSSL (arXiv 2206.08954, §3) and
 * EMP-SSL (evaluate.py) judge. Patches are placed at random, by seed; unlike EMP-SSL's they keep their colours.
 */
import { drawCrop } from "../graphs/augment.js";
import { bagMean } from "../graphs/knn.js";
import type { Dataset } from "../src/data/index.js";
import type { Engine } from "../src/engines/index.js";
import { input } from "../src/onnx/graph.js";
import { toModel } from "../src/onnx/model.js";
import { random } from "../src/random.js";
import { extractFeatures, imageBatches, type Features, type Preprocessing } from "./features.js";

export interface Bag {
  /** Patches of each image; 1: the usual centre crop, no bag. */
  patches: number;
  /** Share of the image's area that a patch covers: the scale that the encoder was trained with. */
  scale: number;
}

/** Patch-images that go through the encoder before their features are averaged. */
const atOnce = 16_384;

/** Features of every image of `data`, averaged over its patches and not normalised: rows [N, D]. */
export async function bagFeatures(
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
    const image = (i: number) => start + (i % n); // patch by patch, in each all images
    const all: Dataset = { length: n * patches, key: (i) => data.key(image(i)), image: (i) => data.image(image(i)) };
    const batches = imageBatches(engine, all, p, 64, ({ width, height }, i) => ({
      crop: drawCrop(random(seed, "bag", image(i), Math.floor(i / n)), width, height, {
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
