/** What a segmenter sees: an image, and while it learns the labels with it, cut, resized and mirrored alike. */
import type { Box } from "../../graphs/augment.js";
import { viewModel } from "../../graphs/segmentation.js";
import type { Image } from "../../src/data/dataset.js";
import type { Size } from "../../src/data/decode.js";
import type { LabelMap } from "../../src/data/labelPng.js";
import { ignored } from "../../src/data/segmentationFolder.js";
import type { Engine } from "../../src/engines/index.js";
import type { Random } from "../../src/random.js";
import { tensor, zeros, type Tensor } from "../../src/tensor.js";

/** A box of the image becomes the upper left height × width pixels of the view; what is beside and below them does not count. */
export interface Cut extends Size {
  box: Box;
  flip: boolean;
}

export interface Cutting {
  /** Size of a whole image as the network sees it. */
  resized(image: Size): Size;
  /** It is larger or smaller by a factor between these before the crop. */
  ratio: readonly [number, number];
  crop: Size;
  /** Probability of a mirrored view. */
  flip: number;
}

/** The short side at so many pixels; 0 leaves images as they are. */
export const byShortSide =
  (shortSide: number) =>
  (image: Size): Size =>
    shortSide ? scaled(image, shortSide / Math.min(image.height, image.width)) : image;

const scaled = ({ height, width }: Size, by: number): Size => ({
  height: Math.max(1, Math.round(height * by)),
  width: Math.max(1, Math.round(width * by)),
});

/** The whole image. */
export const uncut = (image: Size, { height, width }: Size): Cut => ({
  box: { top: 0, left: 0, height: image.height, width: image.width },
  height,
  width,
  flip: false,
});

/** A crop anywhere in the resized image, as a box of the image itself; all of it where the crop is larger. */
export function drawCut(r: Random, image: Size, o: Cutting): Cut {
  const resized = scaled(o.resized(image), r.uniform(...o.ratio));
  const along = (side: keyof Size) => {
    const length = Math.min(o.crop[side], resized[side]);
    const taken = Math.round((length / resized[side]) * image[side]);
    return { length, taken, start: r.integer(image[side] - taken + 1) };
  };
  const [rows, columns] = [along("height"), along("width")];
  return {
    box: { top: rows.start, left: columns.start, height: rows.taken, width: columns.taken },
    height: rows.length,
    width: columns.length,
    flip: r.uniform() < o.flip,
  };
}

/** The labels of a view [H,W]: each the nearest pixel's. */
export function cutLabels({ labels, width }: LabelMap, { box, flip, ...cut }: Cut, view: Size): BigInt64Array {
  const out = new BigInt64Array(view.height * view.width).fill(BigInt(ignored));
  for (let y = 0; y < cut.height; y++) {
    const row = (box.top + Math.floor(((y + 0.5) * box.height) / cut.height)) * width + box.left;
    for (let x = 0; x < cut.width; x++) {
      const column = Math.floor((((flip ? cut.width - 1 - x : x) + 0.5) * box.width) / cut.width);
      out[y * view.width + x] = BigInt(labels[row + column]!);
    }
  }
  return out;
}

/** The pixels of a box, mirrored where asked: uint8 [1,3,h,w] */
function boxed({ data, width, height }: Image, { box, flip }: Cut): Tensor {
  const out = zeros("uint8", [1, 3, box.height, box.width]);
  for (let c = 0, to = 0; c < 3; c++)
    for (let y = 0; y < box.height; y++, to += box.width) {
      const from = (c * height + box.top + y) * width + box.left;
      out.data.set(data.subarray(from, from + box.width), to);
      if (flip) out.data.subarray(to, to + box.width).reverse();
    }
  return out;
}

export interface Viewer {
  /** A cut in 0–1: [1,3,height,width] */
  view(image: Image, cut: Cut): Promise<Tensor>;
  /** Cuts of several images with their labels: `image` [B,3,H,W], where they do not reach of the colour `fill`, and `labels` [B,H,W]. */
  batch(
    images: readonly Image[],
    labels: readonly LabelMap[],
    cuts: readonly Cut[],
    crop: Size,
    fill: readonly number[],
  ): Promise<{ image: Tensor; labels: Tensor }>;
  release(): void;
}

/** Resizing is a graph; cuts are copied. */
export async function viewer(engine: Engine): Promise<Viewer> {
  const session = await engine.session(viewModel());
  const view: Viewer["view"] = async (image, cut) => {
    const size = tensor("int64", [2], [cut.height, cut.width]);
    const { view } = await session.run({ image: boxed(image, cut), size });
    return view!;
  };
  return {
    view,
    async batch(images, labels, cuts, crop, fill) {
      const area = crop.height * crop.width;
      const image = zeros("float32", [images.length, 3, crop.height, crop.width]);
      const maps = zeros("int64", [images.length, crop.height, crop.width]);
      for (const [i, cut] of cuts.entries()) {
        const { data } = await view(images[i]!, cut);
        for (let c = 0; c < 3; c++) {
          const plane = image.data.subarray((3 * i + c) * area, (3 * i + c + 1) * area);
          plane.fill(fill[c]!);
          for (let y = 0; y < cut.height; y++) {
            const from = (c * cut.height + y) * cut.width;
            plane.set((data as Float32Array).subarray(from, from + cut.width), y * crop.width);
          }
        }
        maps.data.set(cutLabels(labels[i]!, cut, crop), i * area);
      }
      return { image, labels: maps };
    },
    release: () => session.release(),
  };
}
