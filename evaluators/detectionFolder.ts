/** Images with boxes, in the layouts that detection data comes in: COCO's JSON and VOC's XML. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, extname, join, resolve } from "node:path";
import type { Dataset } from "../src/data/dataset.js";
import { decodeResized, extensions, type Size } from "../src/data/decode.js";
import type { GroundTruth } from "./coco/columns.js";
import { readGroundTruth, readImageNames } from "./coco/read.js";
import type { VocObject } from "./voc.js";
import { readVocAnnotations, readVocSize } from "./vocFiles.js";

export interface DetectionFiles {
  /** What is judged: val, or test where the data has one. */
  split: "val" | "test";
  /** The training annotations where they are not in the usual place: a COCO JSON, or a list of VOC's images. */
  trainFile: string;
  /** The same for what is judged. */
  testFile: string;
  /** The folder of the images, or one above them. */
  images: string;
}

/** One object: corners in pixels of the image, from 0, and its class's place among the classes. */
export interface BoxedObject {
  box: [x1: number, y1: number, x2: number, y2: number];
  label: number;
}

export interface DetectionSplit {
  /** What a score is counted from, image by image as `names` has them. */
  truth: GroundTruth;
  /** By VOC's rules too, where the data is VOC's. */
  voc?: Map<string, VocObject[]>;
  /** Of each image: its file, and the objects to learn; crowds and boxes without area are not among them. */
  files: readonly string[];
  objects: readonly (readonly BoxedObject[])[];
  /** How many boxes have no area, and how many are of crowds. */
  flat: number;
  crowds: number;
}

export interface DetectionData {
  layout: "COCO" | "VOC";
  classes: readonly string[];
  train: DetectionSplit;
  test: DetectionSplit;
  note: string;
}

/** Opens training images and those to be judged; paths of the options are below the root, or absolute. */
export function openDetection(root: string, o: DetectionFiles): DetectionData {
  const layout = existsSync(join(root, "Annotations")) ? "VOC" : "COCO";
  const { classes, train, test } = (layout === "VOC" ? openVoc : openCoco)(root, o);
  const count = (s: DetectionSplit): string =>
    `${s.files.length} images with ${s.objects.reduce((n, own) => n + own.length, 0)} objects`;
  const left = [
    ...(train.flat ? [`${train.flat} boxes without area are not learned`] : []),
    ...(train.crowds ? [`${train.crowds} crowds are not learned`] : []),
  ];
  const note = `${layout}: training ${count(train)}, ${o.split} ${count(test)}, ${classes.length} classes${left.length ? `; ${left.join(", ")}` : ""}`;
  return { layout, classes, train, test, note };
}

type Opened = Pick<DetectionData, "classes" | "train" | "test">;

// ---------------------------------------------------------------- COCO

function openCoco(root: string, o: DetectionFiles): Opened {
  const train = cocoSplit(root, annotationFile(root, "train", o.trainFile), o.images);
  const test = cocoSplit(root, annotationFile(root, o.split, o.testFile), o.images);
  const [known, asked] = [train.truth.categories, test.truth.categories];
  if (known.length !== asked.length || known.some((c, i) => c.id !== asked[i]!.id || c.name !== asked[i]!.name))
    throw new Error(
      `The categories of ${root} differ between training and ${o.split}: ${listed(known)} in the one, ${listed(asked)} in the other.`,
    );
  return { classes: known.map((c) => c.name), train, test };
}
const listed = (categories: GroundTruth["categories"]): string =>
  categories.map((c) => `${c.id} (${c.name})`).join(", ") || "none";

/** annotations/instances_train*.json, unless it is given */
function annotationFile(root: string, split: string, given: string): string {
  if (given) return existing(resolve(root, given));
  const folder = join(root, "annotations");
  const found = existsSync(folder)
    ? readdirSync(folder).filter((f) => f.startsWith(`instances_${split}`) && f.endsWith(".json"))
    : [];
  if (found.length !== 1)
    throw new Error(
      `${found.length ? `${folder} has ${found.sort().join(", ")}` : `${root} has neither Annotations/ with VOC's XML nor annotations/instances_${split}*.json`}. Name the file with --set ${split === "train" ? "trainFile" : "testFile"}.`,
    );
  return join(folder, found[0]!);
}

function cocoSplit(root: string, file: string, images: string): DetectionSplit {
  const { data: truth } = readGroundTruth(file, "bbox");
  const names = readImageNames(file);
  const part = /^instances_(.+)\.json$/.exec(basename(file))?.[1] ?? "";
  const places = images ? [images] : [part, part.replace(/\d+$/, ""), join("images", part), "images"];
  const folder = places.map((p) => resolve(root, p)).find((p) => existsSync(p));
  if (!folder)
    throw new Error(`${root} has no folder of images for ${file} (${places.join(", ")}). Name it with --set images.`);
  const files = Array.from(truth.images.id, (id) => existing(join(folder, names.get(id)!), file));
  return { truth, files, ...learned(truth) };
}

function existing(path: string, from?: string): string {
  if (!statSync(path, { throwIfNoEntry: false })?.isFile())
    throw new Error(`${path} is not there${from ? `, though ${from} names it` : ""}.`);
  return path;
}

/** The objects of each image that are learned. */
function learned({ length, images, image, category, boxes, crowd }: GroundTruth) {
  const objects: BoxedObject[][] = Array.from(images.id, () => []);
  let [flat, crowds] = [0, 0];
  for (let i = 0; i < length; i++) {
    const [x, y, w, h] = boxes!.subarray(4 * i, 4 * i + 4) as unknown as [number, number, number, number];
    if (image[i]! < 0 || category[i]! < 0) continue;
    if (!(w > 0 && h > 0)) flat++;
    else if (crowd[i]) crowds++;
    else objects[image[i]!]!.push({ box: [x, y, x + w, y + h], label: category[i]! });
  }
  return { objects, flat, crowds };
}

// ---------------------------------------------------------------- VOC

function openVoc(root: string, o: DetectionFiles): Opened {
  const list = (split: string, given: string): string =>
    existing(given ? resolve(root, given) : join(root, "ImageSets", "Main", `${split}.txt`));
  const folder = join(root, "Annotations");
  const [train, test] = [list("train", o.trainFile), list(o.split, o.testFile)].map((file) =>
    readVocAnnotations(folder, file),
  ) as [Map<string, VocObject[]>, Map<string, VocObject[]>];
  const classes = [...new Set([...train.values(), ...test.values()].flat().map(({ name }) => name))].sort();
  const files = imagesBelow(existingFolder(resolve(root, o.images || "JPEGImages")));
  const split = (voc: Map<string, VocObject[]>): DetectionSplit => {
    const truth = columnsOf(voc, classes, (name) => readVocSize(join(folder, `${name}.xml`)));
    const own = [...voc.keys()].map((name) => {
      const file = files.get(name);
      if (!file)
        throw new Error(`${join(folder, `${name}.xml`)} has no image ${name} below ${o.images || "JPEGImages"}.`);
      return file;
    });
    // difficult objects are learned like others
    return { truth, voc, files: own, ...learned({ ...truth, crowd: truth.crowd.map(() => 0) }) };
  };
  return { classes, train: split(train), test: split(test) };
}

function existingFolder(path: string): string {
  if (!existsSync(path)) throw new Error(`${path} is not there. Name the folder of the images with --set images.`);
  return path;
}

/** Image files below a folder by their names without ending. */
const imagesBelow = (folder: string): Map<string, string> =>
  new Map(
    readdirSync(folder, { recursive: true, encoding: "utf8" }).flatMap((f) => {
      const ending = extname(f);
      return extensions.includes(ending.toLowerCase()) ? [[basename(f, ending), join(folder, f)]] : [];
    }),
  );

/**
 * VOC's objects as COCO's columns, images in the map's order with ids from 1: corners counted from 1, both included, become x, y, w, h from 0 as in
 * detectron2; a box whose corners meet has no area. Difficult objects are judged as crowds: found or not, they do not count.
 */
function columnsOf(
  voc: ReadonlyMap<string, readonly VocObject[]>,
  classes: readonly string[],
  sizeOf: (name: string) => Size,
): GroundTruth {
  const rows = [...voc.values()].flatMap((objects, image) => objects.map((object) => ({ image, ...object })));
  const sizes = [...voc.keys()].map(sizeOf);
  const boxes = rows.map(({ box: [x1, y1, x2, y2] }) => [
    x1 - 1,
    y1 - 1,
    x2 > x1 ? x2 - x1 + 1 : 0,
    y2 > y1 ? y2 - y1 + 1 : 0,
  ]);
  return {
    length: rows.length,
    images: {
      id: Float64Array.from(sizes, (_, i) => i + 1),
      width: Float64Array.from(sizes, (s) => s.width),
      height: Float64Array.from(sizes, (s) => s.height),
    },
    categories: classes.map((name, i) => ({ id: i + 1, name })),
    image: Int32Array.from(rows, (r) => r.image),
    category: Int32Array.from(rows, (r) => classes.indexOf(r.name)),
    id: Float64Array.from(rows, (_, i) => i + 1),
    area: Float64Array.from(boxes, ([, , w, h]) => w! * h!),
    boxes: Float64Array.from(boxes.flat()),
    crowd: Uint8Array.from(rows, (r) => Number(r.difficult)),
  };
}

// ---------------------------------------------------------------- resizing

/** How a whole image becomes what a detector of one size sees. */
export type Fit = "keep" | "squash";

/** The size of an image within height × width: as large as fits with its aspect kept, or all of it. */
export function fitted(own: Size, view: Size, fit: Fit): Size {
  if (fit === "squash") return view;
  const scale = Math.min(view.width / own.width, view.height / own.height);
  const side = (length: number): number => Math.max(1, Math.round(length * scale));
  return { width: side(own.width), height: side(own.height) };
}

/** The images of a split, resized; where a file has another size than its annotation says, reading it fails. */
export const resizedImages = ({ files, truth: { images } }: DetectionSplit, view: Size, fit: Fit): Dataset => ({
  length: files.length,
  key: (i) => files[i]!,
  image: (i) =>
    decodeResized(files[i]!, (own) => {
      const [width, height] = [images.width[i]!, images.height[i]!];
      if (own.width !== width || own.height !== height)
        throw new Error(`it is ${own.width} × ${own.height} pixels, its annotation says ${width} × ${height}`);
      return fitted(own, view, fit);
    }),
});
