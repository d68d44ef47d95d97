/** diptych coco-eval: flags, and from files to results and lines. */
import {
  cocoEval,
  defaultParameters,
  iouTypes,
  readDetections,
  readGroundTruth,
  table,
  threePlaces,
  tide,
  type AreaRange,
  type CocoResult,
  type GroundTruth,
  type IouType,
  type Parameters,
  type TideResult,
} from "../evaluators/coco/index.js";
import { perClass, type ClassRow } from "../evaluators/coco/perClass.js";
import { unknownName } from "../src/names.js";
import type { PlainFlags, PlainValues } from "./plainFlags.js";

export const cocoEvalFlags = {
  gt: { type: "string", required: true, description: "ground truth: instances_*.json or person_keypoints_*.json" },
  dt: { type: "string", required: true, description: "detections in COCO's results format" },
  iou: { type: "string", options: iouTypes, default: "bbox", description: "what is compared" },
  "per-class": { type: "boolean", description: "a line for each category" },
  tide: { type: "boolean", description: "what keeps AP50 low: TIDE's six kinds of error" },
  "max-dets": {
    type: "string",
    description:
      "detections of an image and category that count, such as 1,10,100; AP is that at 100, as in pycocotools",
  },
  categories: { type: "string", description: "ids or names of the categories that count, such as 1,3 or person,car" },
  area: { type: "string", multiple: true, description: "other limits of an area range in pixels: small=0:400" },
  "class-agnostic": { type: "boolean", description: "all categories are one (pycocotools' useCats = 0)" },
} as const satisfies PlainFlags;

export interface CocoEvalResult {
  stats: number[];
  perClass?: ClassRow[];
  tide?: TideResult;
}

/** Evaluates the files that the flags name. */
export function runCocoEval(
  flags: PlainValues,
  warn: (line: string) => void,
): { result: CocoEvalResult; lines: () => string[] } {
  const iouType = flags.iou as IouType;
  const truth = readGroundTruth(flags.gt as string, iouType);
  const found = readDetections(flags.dt as string, truth.data, iouType);
  [...truth.warnings, ...found.warnings].forEach(warn);
  const parameters: Pick<Parameters, "iouType"> & Partial<Parameters> = {
    iouType,
    useCategories: !flags["class-agnostic"],
    areas: areasOf(iouType, (flags.area as string[] | undefined) ?? []),
    ...(flags["max-dets"] && { maxDets: numbersOf("--max-dets", flags["max-dets"] as string) }),
    ...(flags.categories && { categories: categoriesOf(truth.data, flags.categories as string) }),
  };
  const evaluated = cocoEval(truth.data, found.data, parameters);
  const needed = iouType === "keypoints" ? 20 : 100;
  if (!evaluated.parameters.maxDets.includes(needed))
    warn(`AP at ${needed} detections is −1, as in pycocotools: ${needed} is not among --max-dets.`);
  const result: CocoEvalResult = {
    stats: [...evaluated.stats],
    ...(flags["per-class"] && { perClass: perClass(evaluated) }),
    ...(flags.tide && { tide: tide(truth.data, found.data, parameters) }),
  };
  return { result, lines: () => linesOf(evaluated, result) };
}

function numbersOf(flag: string, text: string): number[] {
  const numbers = text.split(",").map(Number);
  if (numbers.some((n) => !Number.isInteger(n) || n < 1))
    throw new Error(`Expected positive integers for ${flag} but received ${text}.`);
  return numbers;
}

function categoriesOf({ categories }: GroundTruth, text: string): number[] {
  return text.split(",").map((wanted) => {
    const own = categories.find(({ id, name }) => name === wanted || String(id) === wanted);
    if (!own)
      throw new Error(
        unknownName(
          "category",
          wanted,
          categories.map(({ name }) => name),
        ),
      );
    return own.id;
  });
}

function areasOf(iouType: IouType, changes: readonly string[]): AreaRange[] {
  const areas = [...defaultParameters(iouType).areas];
  for (const change of changes) {
    const [, name = "", min = "", max = ""] = /^(\w+)=([^:]+):([^:]+)$/.exec(change) ?? [];
    if (!(Number(min) <= Number(max))) throw new Error(`Expected NAME=MIN:MAX for --area but received ${change}.`);
    const at = areas.findIndex((area) => area.name === name);
    if (at < 0)
      throw new Error(
        unknownName(
          "area range",
          name,
          areas.map((area) => area.name),
        ),
      );
    areas[at] = { name, min: Number(min), max: Number(max) };
  }
  return areas;
}

function linesOf({ stats, parameters }: CocoResult, { perClass, tide }: CocoEvalResult): string[] {
  const lines = table(stats, parameters);
  if (perClass) {
    const width = Math.max(8, ...perClass.map(({ name }) => name.length));
    const columns = ["AP", "AP50", "AP75", "AR"] as const;
    lines.push("", `${"category".padEnd(width)}${columns.map((c) => c.padStart(8)).join("")}`);
    for (const row of perClass)
      lines.push(`${row.name.padEnd(width)}${columns.map((c) => threePlaces(row[c]).padStart(8)).join("")}`);
  }
  if (tide) {
    lines.push("", `TIDE at IoU 0.50: AP ${tide.AP.toFixed(2)}`);
    for (const [name, gain] of Object.entries(tide.errors))
      lines.push(
        `${name.padEnd(7)} dAP ${gain.toFixed(2).padStart(6)}   ${tide.counts[name as keyof typeof tide.counts]} errors`,
      );
  }
  return lines;
}
