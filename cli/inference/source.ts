/** What the inference commands are given: an encoder, a folder or photographs. */
import { readFile } from "node:fs/promises";
import sharp from "sharp";
import type { Network } from "../../evaluators/evaluator.js";
import { cachedFeatures } from "../../evaluators/featureCache.js";
import { preprocessingOf, type Preprocessing } from "../../evaluators/features.js";
import { networkIn } from "../../graphs/encoder.js";
import { cifarFolder } from "../../src/data/cifar10.js";
import { cached } from "../../src/data/cached.js";
import { resized } from "../../src/data/decode.js";
import { datasets, type Dataset } from "../../src/data/index.js";
import { readModel } from "../../src/onnx/model.js";
import { zeros, type Tensor } from "../../src/tensor.js";
import type { Channels } from "../../src/views.js";
import { readability, readableOnes } from "../folder.js";

export interface EncoderFlags {
  size?: number;
  /** Short side before the centre crop. */
  resize?: number;
  mean?: string;
  std?: string;
}

export interface Encoder {
  bytes: Uint8Array;
  preprocessing: Preprocessing;
  /** Takes any height and width. */
  anySize: boolean;
}

/** An encoder file with how images enter it. */
export async function encoderAt(file: string, { size, resize, mean, std }: EncoderFlags): Promise<Encoder> {
  const bytes = await readFile(file).catch((e: Error) => {
    throw new Error(`Encoder ${file} cannot be read: ${e.message}`, { cause: e });
  });
  if (!mean !== !std) throw new Error(`--mean and --std belong together; only --${mean ? "mean" : "std"} was given.`);
  const normalize = mean && std ? { mean: numbers("mean", mean), std: numbers("std", std) } : undefined;
  const preprocessing = preprocessingOf(bytes, { size, resize, normalize });
  const [, , h, w] = readModel(bytes).inputs[0]!.shape;
  return { bytes, preprocessing, anySize: typeof h !== "number" && typeof w !== "number" };
}

/** The network of an encoder of ours, for judges that train it on. */
export function ownNetwork(file: string, encoder: Uint8Array): Network {
  const network = networkIn(encoder);
  if (!network)
    throw new Error(`${file} carries no network of ours, only a graph: it can be judged by its features alone.`);
  return network;
}

/** The numbers of a flag, one a channel, as 0.5,0.5,0.5. */
function numbers(flag: string, text: string): number[] {
  const values = text.split(",").map(Number);
  if (values.every((v) => Number.isFinite(v))) return values;
  throw new Error(`Expected a number a channel for --${flag}, as 0.5,0.5,0.5, but received ${text}.`);
}

/** A split of a folder, or of the fetched CIFAR-10. */
const splitOf = (root: string, split: "train" | "val", channels: Channels): Promise<Dataset | undefined> =>
  (root === "cifar10" ? datasets.cifar10 : datasets.imageFolder).open({
    root: root === "cifar10" ? cifarFolder() : root,
    split,
    shortSide: 256,
    channels,
  });

/** A split's images that can be read, decoded once and kept; the others are named and left out. With `cache`, which ones is remembered. */
export async function readable(
  root: string,
  split: "train" | "val",
  { channels, cache, say }: { channels: Channels; cache: boolean; say(line: string): void },
): Promise<Dataset | undefined> {
  const data = await splitOf(root, split, channels);
  if (!data) return undefined;
  const images = await cached(data, "memory");
  let looked = false;
  const { data: marks } = await cachedFeatures(cache ? ["readable"] : undefined, images, async () => {
    looked = true;
    return { data: Float32Array.from(await readability(images, say)), length: images.length, width: 1 };
  });
  if (!looked)
    marks.forEach(
      (mark, i) => mark || say(`${images.key(i)} could not be read before and is left out; --no-cache looks again.`),
    );
  return readableOnes(images, marks);
}

/** Every image of a folder, as the encoder takes them: its train split, where it has one. */
export const imagesIn = async (root: string, { preprocessing }: Encoder): Promise<Dataset> =>
  (await splitOf(root, "train", preprocessing.channels))!;

export interface Photograph {
  file: string;
  /** [1,C,H,W] as the encoder takes it. */
  image: Tensor;
}

/** A photograph whole, its long side `side` pixels, both sides multiples of 32; square where the encoder's size is fixed. */
export async function photograph(file: string, encoder: Encoder, side: number): Promise<Photograph> {
  const { size, channels, normalize } = encoder.preprocessing;
  try {
    const upright = sharp(file).autoOrient();
    const { width, height } = await sharp(await upright.toBuffer()).metadata();
    const long = Math.max(width, height);
    const of = (length: number): number =>
      encoder.anySize ? Math.max(32, Math.round((length / long) * (side / 32)) * 32) : size;
    const [w, h] = [of(width), of(height)];
    const { data } = await resized(file, { width: w, height: h, fit: "fill" }, channels);
    const image = zeros("float32", [1, channels, h, w]);
    data.forEach((v, i) => {
      const c = Math.floor(i / (h * w));
      image.data[i] = (v / 255 - (normalize?.mean[c] ?? 0)) / (normalize?.std[c] ?? 1);
    });
    return { file, image };
  } catch (error) {
    throw new Error(`${file} cannot be read as a picture: ${(error as Error).message.split("\n")[0]}`, {
      cause: error,
    });
  }
}

/** Pixels of the long side unless --side says more: the trained size, and at least 224 for the sake of a fine map. */
export function sideOf({ preprocessing: { size }, anySize }: Encoder, asked?: number): number {
  if (asked !== undefined && !anySize)
    throw new Error(`--side: this encoder takes images of ${size} px a side alone. Leave it out.`);
  return asked ?? Math.max(size, 224);
}
