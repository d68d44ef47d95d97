/** Images with boxes, in the layouts that detection data comes in: COCO's JSON and VOC's XML. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, extname, join, resolve } from "node:path";
import type { Dataset } from "../../src/data/dataset.js";
import { decodeResized, extensions, sizeOf, type Size } from "../../src/data/decode.js";
import type { GroundTruth } from "../coco/columns.js";
import { readGroundTruth, readImageNames } from "../coco/read.js";
import type { VocObject } from "../voc.js";
import { readVocAnnotations, readVocSize } from "../vocFiles.js";

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

export interface BoxedImages {
  files: readonly string[];
  /** As the annotations have them. */
  sizes: readonly Size[];
  /** The objects to learn: crowds and boxes without area are not among them. */
  objects: readonly (readonly BoxedObject[])[];
}

/** Images to be judged on, with all that their annotations say. */
export interface JudgedImages extends BoxedImages {
  /** Its images in the order of `files`. */
  truth: GroundTruth;
  /** The same as VOC has it, where the data is VOC's: by name, in the same order. */
  voc?: Map<string, VocObject[]>;
}

export interface DetectionData {
  classes: readonly string[];
  /** Those with objects. */
  train: BoxedImages;
  test: JudgedImages;
  note: string;
}

/** Opens training images and those to be judged; paths of the options are below the root, or absolute. */
export function openDetection(root: string, o: DetectionFiles): DetectionData {
  if (!statSync(root, { throwIfNoEntry: false })?.isDirectory()) throw new Error(`There is no folder ${root}.`);
  // by its exact name: on a disk that ignores case, COCO's annotations/ is there as well
  const layout = readdirSync(root).includes("Annotations") ? "VOC" : "COCO";
  const { warnings, classes, train, test } = (layout === "VOC" ? openVoc : openCoco)(root, o);
  const learned = withObjects(train);
  if (learned.files.length === 0)
    throw new Error(`None of the ${train.files.length} training images of ${root} has an object.`);
  if (test.files.length === 0) throw new Error(`The ${o.split} annotations of ${root} name no images.`);
  const count = ({ files, objects }: BoxedImages): string =>
    `${files.length} images with ${objects.flat().length} objects`;
  const flat = [train, test].reduce((n, { truth }) => n + flatBoxes(truth), 0);
  const summary =
    `${layout}: training ${count(learned)}, ${o.split} ${count(test)}, ${classes.length} classes` +
    (flat ? `; boxes without area, which are not learned: ${flat}` : "");
  return { classes, train: learned, test, note: [summary, ...warnings].join("\n") };
}

const flatBoxes = ({ length, boxes }: GroundTruth): number =>
  Array.from({ length }, (_, k) => k).filter((k) => !(boxes![4 * k + 2]! > 0 && boxes![4 * k + 3]! > 0)).length;

function withObjects({ files, sizes, objects }: BoxedImages): BoxedImages {
  const kept = <T>(list: readonly T[]): T[] => list.filter((_, i) => objects[i]!.length > 0);
  return { files: kept(files), sizes: kept(sizes), objects: kept(objects) };
}

/** Sizes of the images, and the objects of each that are learned. */
function contents({ length, images, image, category, boxes }: GroundTruth, crowd?: Uint8Array) {
  const objects: BoxedObject[][] = Array.from(images.id, () => []);
  for (let k = 0; k < length; k++) {
    const [x, y, w, h] = boxes!.subarray(4 * k, 4 * k + 4) as unknown as [number, number, number, number];
    if (image[k]! >= 0 && category[k]! >= 0 && w > 0 && h > 0 && !crowd?.[k])
      objects[image[k]!]!.push({ box: [x, y, x + w, y + h], label: category[k]! });
  }
  return { objects, sizes: Array.from(images.width, (width, i) => ({ width, height: images.height[i]! })) };
}

interface Opened {
  /** What the annotations say that looks wrong, a sentence each. */
  warnings: string[];
  classes: readonly string[];
  train: JudgedImages;
  test: JudgedImages;
}

// ---------------------------------------------------------------- COCO

function openCoco(root: string, o: DetectionFiles): Opened {
  const learned = cocoSplit(root, annotationFile(root, "train", o.trainFile), o.images);
  const judged = cocoSplit(root, annotationFile(root, o.split, o.testFile), o.images);
  const [train, test] = [learned.split, judged.split];
  const [known, asked] = [train.truth.categories, test.truth.categories];
  if (known.length !== asked.length || known.some((c, i) => c.id !== asked[i]!.id || c.name !== asked[i]!.name))
    throw new Error(
      `The categories of ${root} differ between training and ${o.split}: ${listed(known)} in the one, ${listed(asked)} in the other.`,
    );
  const warnings = [...learned.warnings, ...judged.warnings];
  return { warnings, classes: known.map((c) => c.name), train, test };
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

function cocoSplit(root: string, file: string, images: string): { split: JudgedImages; warnings: string[] } {
  const { data: truth, warnings } = readGroundTruth(file, "bbox");
  const names = readImageNames(file);
  truth.images.id.forEach((id, i) => {
    if (!(truth.images.width[i]! > 0 && truth.images.height[i]! > 0))
      throw new Error(`${file}: image ${id} has no width and height.`);
  });
  const part = /^instances_(.+)\.json$/.exec(basename(file))?.[1] ?? "";
  const own = part ? [...new Set([part, part.replace(/\d+$/, "")])] : [];
  const below = (folder: string): string[] => [...own.map((p) => join(folder, p)), folder];
  const places = images ? below(images) : [...own, ...below("images")];
  const folder = places.map((p) => resolve(root, p)).find((p) => existsSync(p));
  if (!folder)
    throw new Error(
      `${root} has no folder of images for ${file} (${places.join(", ")}). Name the folder of the images with --set images.`,
    );
  const files = Array.from(truth.images.id, (id) => existing(join(folder, names.get(id)!), file));
  return { split: { truth, files, ...contents(truth, truth.crowd) }, warnings };
}

function existing(path: string, from?: string): string {
  if (!statSync(path, { throwIfNoEntry: false })?.isFile())
    throw new Error(`${path} is not there${from ? `, though ${from} names it` : ""}.`);
  return path;
}

// ---------------------------------------------------------------- VOC

function openVoc(root: string, o: DetectionFiles): Opened {
  const list = (split: string, given: string): string => {
    if (given) return existing(resolve(root, given));
    const usual = join(root, "ImageSets", "Main", `${split}.txt`);
    if (!existsSync(usual))
      throw new Error(
        `${usual} is not there. ${split === "train" ? "Name the list with --set trainFile." : "Choose another split with --set split, or name the list with --set testFile."}`,
      );
    return usual;
  };
  const folder = join(root, "Annotations");
  const [train, test] = [list("train", o.trainFile), list(o.split, o.testFile)].map((file) =>
    readVocAnnotations(folder, file),
  ) as [Map<string, VocObject[]>, Map<string, VocObject[]>];
  const classes = [...new Set([...train.values(), ...test.values()].flat().map(({ name }) => name))].sort();
  const files = imagesBelow(existingFolder(resolve(root, o.images || "JPEGImages")));
  const split = (voc: Map<string, VocObject[]>): JudgedImages => {
    const truth = columnsOf(voc, classes, (name) => readVocSize(join(folder, `${name}.xml`)));
    const own = [...voc.keys()].map((name) => {
      const file = files.get(name);
      if (!file)
        throw new Error(`${join(folder, `${name}.xml`)} has no image ${name} below ${o.images || "JPEGImages"}.`);
      return file;
    });
    // difficult objects are learned like others
    return { truth, voc, files: own, ...contents(truth) };
  };
  return { warnings: [], classes, train: split(train), test: split(test) };
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
  sizeNamed: (name: string) => Size,
): GroundTruth {
  const rows = [...voc.values()].flatMap((objects, image) => objects.map((object) => ({ image, ...object })));
  const sizes = [...voc.keys()].map(sizeNamed);
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

/** Fails at the first file that is no image, or one of another size than its annotation says. */
export async function checkSizes({ files, sizes }: BoxedImages): Promise<void> {
  for (const [i, file] of files.entries()) {
    const own = await sizeOf(file);
    const { width, height } = sizes[i]!;
    if (own.width !== width || own.height !== height)
      throw new Error(
        `${file} is ${own.width} × ${own.height} pixels, but its annotation says ${width} × ${height}. Correct the annotation, or leave the image out of it.`,
      );
  }
}

/** Images resized; their files have the sizes that the annotations say. */
export const resizedImages = ({ files, sizes }: BoxedImages, view: Size, fit: Fit): Dataset => ({
  length: files.length,
  key: (i) => files[i]!,
  image: (i) => decodeResized(files[i]!, fitted(sizes[i]!, view, fit)),
});
