/** VOC's files: annotations in XML, detections as text files of each class or as JSON. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import type { VocBox, VocDetections, VocObject } from "./voc.js";

function text(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (e) {
    throw new Error(`${path} cannot be read: ${(e as Error).message}`, { cause: e });
  }
}
const entities: Record<string, string> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };
const plain = (xml: string): string =>
  xml.replace(/&(lt|gt|quot|apos|amp);/g, (_, name: string) => entities[name]!).trim();
const element = (xml: string, name: string): string | undefined =>
  new RegExp(`<${name}\\s*>([\\s\\S]*?)</${name}\\s*>`).exec(xml)?.[1];

/** The text of an annotation file. */
function annotation(path: string): string {
  const xml = text(path);
  if (!/<annotation[\s>]/.test(xml) || !/<\/annotation\s*>/.test(xml))
    throw new Error(`${path} has no whole <annotation>; is it VOC's XML?`);
  return xml;
}

/** Pixels of the image that an annotation file is about. */
export function readVocSize(path: string): { width: number; height: number } {
  const size = element(annotation(path), "size") ?? "";
  const [width, height] = ["width", "height"].map((side) => Number(element(size, side) ?? NaN)) as [number, number];
  if (!(width > 0 && height > 0)) throw new Error(`${path} has no size of its image with a width and a height.`);
  return { width, height };
}

/** The objects of one annotation file; parts of people (<part>) are no objects. */
export function readVocAnnotation(path: string): VocObject[] {
  const xml = annotation(path);
  return [...xml.matchAll(/<object\s*>([\s\S]*?)<\/object\s*>/g)].map(([, body], i) => {
    const own = body!.replace(/<part\s*>[\s\S]*?<\/part\s*>/g, "");
    const name = element(own, "name");
    const bounds = element(own, "bndbox") ?? "";
    const box = ["xmin", "ymin", "xmax", "ymax"].map((side) => Number(element(bounds, side) ?? NaN));
    if (name === undefined || !box.every(Number.isFinite))
      throw new Error(`${path}: object ${i + 1} has no name or no bndbox of four numbers.`);
    return {
      name: plain(name),
      box: box as unknown as VocBox,
      difficult: Number(element(own, "difficult") ?? 0) !== 0,
    };
  });
}

/** The objects of every image of a folder of annotations, or of those that a list (ImageSets/Main/val.txt) names. */
export function readVocAnnotations(folder: string, list?: string): Map<string, VocObject[]> {
  const names = list
    ? text(list)
        .split("\n")
        .flatMap((line) => line.trim().split(/\s+/)[0] || [])
    : readdirSync(folder).flatMap((f) => (f.endsWith(".xml") ? basename(f, ".xml") : []));
  if (names.length === 0) throw new Error(`${list ?? folder} names no annotations (.xml).`);
  return new Map(names.sort().map((name) => [name, readVocAnnotation(join(folder, `${name}.xml`))]));
}

/**
 * Detections of a folder of text files `…_CLASS.txt` or `CLASS.txt` with lines "image score xmin ymin xmax ymax", or of a JSON file
 * [{image_id, category_id: class name, bbox: [x, y, w, h] counted from 0, score}, …].
 */
export function readVocDetections(path: string, classes: readonly string[]): VocDetections {
  if (!statSync(path, { throwIfNoEntry: false })) throw new Error(`${path} is not there.`);
  return statSync(path).isDirectory() ? fromText(path, classes) : fromJson(path);
}

function fromText(folder: string, classes: readonly string[]): VocDetections {
  const files = readdirSync(folder).filter((f) => f.endsWith(".txt"));
  const found: VocDetections = new Map();
  for (const name of classes) {
    const file = files.find((f) => f === `${name}.txt` || f.endsWith(`_${name}.txt`));
    if (!file) continue;
    const path = join(folder, file);
    const lines = text(path).split("\n");
    found.set(
      name,
      lines.flatMap((line, i) => {
        if (!line.trim()) return [];
        const [image = "", ...fields] = line.trim().split(/\s+/);
        const numbers = fields.map(Number);
        if (numbers.length !== 5 || numbers.some(Number.isNaN))
          throw new Error(`${path}: line ${i + 1} is not "image score xmin ymin xmax ymax": ${line.trim()}`);
        const [score, ...box] = numbers as [number, number, number, number, number];
        return { image, score, box };
      }),
    );
  }
  if (found.size === 0)
    throw new Error(`${folder} has no file CLASS.txt or …_CLASS.txt for any of ${classes.join(", ")}.`);
  return found;
}

function fromJson(path: string): VocDetections {
  let results: unknown;
  try {
    results = JSON.parse(text(path));
  } catch (e) {
    throw new Error(`${path} is no JSON: ${(e as Error).message}`, { cause: e });
  }
  if (!Array.isArray(results)) throw new Error(`${path} is no array of detections.`);
  const found: VocDetections = new Map();
  (results as Record<string, unknown>[]).forEach(({ image_id, category_id, bbox, score }, i) => {
    const numbers = [score, ...(Array.isArray(bbox) ? (bbox as unknown[]) : [])];
    if (typeof category_id !== "string" || numbers.length !== 5 || !numbers.every((v) => typeof v === "number"))
      throw new Error(`${path}: [${i}] needs category_id (the class's name), a bbox of four numbers and a score.`);
    const [own, x, y, w, h] = numbers as [number, number, number, number, number];
    const list = found.get(category_id) ?? [];
    list.push({ image: String(image_id), score: own, box: [x + 1, y + 1, x + w, y + h] });
    found.set(category_id, list);
  });
  return found;
}
