/** Images with a label PNG each, in the layouts that segmentation data comes in. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, extname, join } from "node:path";
import type { Dataset } from "./dataset.js";
import { decode, extensions } from "./decode.js";
import { readLabelPng, type LabelMap } from "./labelPng.js";

/** The label of pixels that do not count; a data set's own such labels become it. */
export const ignored = 255;

export interface SegmentationSplit {
  images: Dataset;
  /** The label map of image i, of the image's size: classes, and 255 for what does not count. */
  labels(i: number, size: { width: number; height: number }): LabelMap;
}

export interface SegmentationData {
  /** Which layout was found. */
  layout: string;
  classes: readonly string[];
  train: SegmentationSplit;
  test: SegmentationSplit;
}

export interface SegmentationOptions {
  /** What is judged: val, or test where the data has one. */
  split: "val" | "test";
  /** Number of classes; 0 looks for the highest label of the training images. */
  classes: number;
  /** Labels that do not count, besides 255. */
  ignore: readonly number[];
}

interface Pair {
  image: string;
  label: string;
}

/** The layouts: pairs of a split, undefined where the root has no such split, or is laid out otherwise. */
const layouts: Record<string, (root: string, split: "train" | "val" | "test") => Pair[] | undefined> = {
  "CamVid: train/ and trainannot/": (root, split) => beside(join(root, split), join(root, `${split}annot`)),
  "PASCAL VOC: JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/train.txt": (root, split) => {
    const list = join(root, "ImageSets", "Segmentation", `${split}.txt`);
    if (!existsSync(list)) return undefined;
    const names = readFileSync(list, "utf8").split(/\s+/).filter(Boolean);
    return names.map((name) => ({
      image: join(root, "JPEGImages", `${name}.jpg`),
      label: join(root, "SegmentationClass", `${name}.png`),
    }));
  },
  "COCO-Stuff: images/train2017/ and annotations/train2017/": (root, split) =>
    [`${split}2017`, split]
      .map((name) => beside(join(root, "images", name), join(root, "annotations", name)))
      .find((pairs) => pairs !== undefined),
};

/** The images of a folder with the labels of the same names in another. */
function beside(images: string, labels: string): Pair[] | undefined {
  if (!existsSync(images) || !existsSync(labels)) return undefined;
  return readdirSync(images)
    .filter((f) => extensions.includes(extname(f).toLowerCase()))
    .sort()
    .map((f) => ({ image: join(images, f), label: join(labels, `${basename(f, extname(f))}.png`) }));
}

/** Opens the training images and those to be judged. `classes.txt` in the root, a line each, names the classes. */
export function openSegmentation(root: string, o: SegmentationOptions): SegmentationData {
  if (!existsSync(root)) throw new Error(`There is no folder ${root}.`);
  const layout = Object.keys(layouts).find((name) => layouts[name]!(root, "train"));
  if (!layout)
    throw new Error(
      `${root} has no images with label PNGs in a layout that is known here. Known are ${Object.keys(layouts).join("; ")}.`,
    );
  const pairsOf = (split: "train" | "val" | "test"): Pair[] => {
    const pairs = layouts[layout]!(root, split) ?? [];
    if (pairs.length === 0)
      throw new Error(`${root} has no images of a ${split} split (${layout}). Choose another with --set split.`);
    for (const { image, label } of pairs)
      if (!existsSync(label)) throw new Error(`${image} has no label: ${label} is not there.`);
    return pairs;
  };
  const [train, test] = [pairsOf("train"), pairsOf(o.split)];
  const names = namesIn(root);
  const classes = o.classes || names?.length || highestLabel(train, o.ignore) + 1;
  const range = classes === 1 ? "the only class is 0" : `${classes} classes are 0 to ${classes - 1}`;
  if (classes > ignored) throw new Error(`Expected at most ${ignored} classes in ${root}, but its ${range}.`);
  if (names && names.length !== classes)
    throw new Error(`${join(root, "classes.txt")} names ${names.length} classes, but ${range}.`);

  const split = (pairs: Pair[]): SegmentationSplit => ({
    images: {
      length: pairs.length,
      key: (i) => pairs[i]!.image,
      image: (i) => decode(pairs[i]!.image),
    },
    labels(i, { width, height }) {
      const { image, label } = pairs[i]!;
      const map = readLabelPng(label);
      if (map.width !== width || map.height !== height)
        throw new Error(`${label} is ${map.width} × ${map.height} pixels, its image ${image} ${width} × ${height}.`);
      const labels = counted(map, o.ignore);
      const wrong = labels.find((v) => v >= classes && v !== ignored);
      if (wrong !== undefined)
        throw new Error(
          `${label} has label ${wrong}; ${range}. Raise --set classes, or leave it out with --set ignore=${[...o.ignore, wrong].join(",")}.`,
        );
      return { width, height, labels };
    },
  });
  return {
    layout,
    classes: names ?? Array.from({ length: classes }, (_, c) => String(c)),
    train: split(train),
    test: split(test),
  };
}

/** Labels with those that do not count as 255. */
const counted = ({ labels }: LabelMap, ignore: readonly number[]): Uint16Array =>
  labels.map((v) => (ignore.includes(v) ? ignored : v));

function namesIn(root: string): string[] | undefined {
  const file = join(root, "classes.txt");
  if (!existsSync(file)) return undefined;
  return readFileSync(file, "utf8")
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
}

function highestLabel(pairs: readonly Pair[], ignore: readonly number[]): number {
  let highest = -1;
  for (const { label } of pairs)
    for (const v of counted(readLabelPng(label), ignore)) if (v > highest && v !== ignored) highest = v;
  if (highest < 0) throw new Error(`No pixel of the ${pairs.length} training images has a label that counts.`);
  return highest;
}
