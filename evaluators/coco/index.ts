/**
 * COCO evaluation with the answers of pycocotools (Lin et al., ECCV 2014, arXiv 1405.0312; its cocoeval.py and maskApi.c), bit for bit: files or
 * columns in, precision over recall and the twelve numbers out.
 */
import { accumulate, type Accumulated } from "./accumulate.js";
import type { Detections, GroundTruth } from "./columns.js";
import { ignoredObjects, lowestOverlap, match } from "./match.js";
import { classesOf, eachGroup, selectedCategories } from "./groups.js";
import { allRows, byKey, byScore } from "./order.js";
import { overlapOf, type Overlap } from "./overlap.js";
import { defaultParameters, type Parameters } from "./parameters.js";
import { summarize } from "./summary.js";

export * as mask from "./mask.js";
export type { Accumulated } from "./accumulate.js";
export { iouTypes, Masks, type Detections, type GroundTruth, type IouType, type Objects } from "./columns.js";
export { bytesSource, fileSource, type Source } from "./json.js";
export { defaultParameters, type AreaRange, type Parameters } from "./parameters.js";
export { readDetections, readGroundTruth, readImageNames, type Read } from "./read.js";
export { table, threePlaces } from "./summary.js";
export { tide, tideDefaults, tideErrors, type TideError, type TideOptions, type TideResult } from "./tide.js";

export interface CocoResult extends Accumulated {
  /** Twelve numbers, of keypoints ten, in pycocotools' order. */
  stats: Float64Array;
  /** Those that counted, ascending by id; one without name where all categories are one. */
  categories: GroundTruth["categories"];
  parameters: Parameters;
}

/**
 * Scores detections.
 * @example
 * const { data: truth } = readGroundTruth("instances_val2017.json", "bbox");
 * const { data: found } = readDetections("results.json", truth, "bbox");
 * const { stats } = cocoEval(truth, found, { iouType: "bbox" });
 * console.log(`AP ${stats[0]}`);
 */
export function cocoEval(
  gt: GroundTruth,
  dt: Detections,
  options: Pick<Parameters, "iouType"> & Partial<Parameters>,
): CocoResult {
  const parameters = checked({ ...defaultParameters(options.iouType), ...options }, gt, dt);
  const { useCategories, areas, thresholds, maxDets, iouType } = parameters;
  const categories = useCategories ? selectedCategories(gt, parameters) : [{ id: -1, name: "" }];
  const [K, images] = [categories.length, gt.images.id.length];
  const [truths, found] = [classesOf(gt, gt, parameters), classesOf(dt, gt, parameters)];
  const listed = gt.categories.map(({ id }, c) => parameters.categories?.indexOf(id) ?? c);
  /** By image, in it (which matters where categories are one) by category as listed and place in the file: the order of ties. */
  const inOrder = ({ length, category, image }: GroundTruth | Detections) => {
    const place = () => category.map((c) => listed[c] ?? -1);
    return byKey(useCategories ? allRows(length) : byKey(allRows(length), place(), listed.length), image, images);
  };
  const ranked = byScore(inOrder(dt), dt.score);
  const byImage = split(byKey(ranked, dt.image, images), found, K);
  const objects = split(inOrder(gt), truths, K);

  // pycocotools compares no keypoints across categories
  const compares = useCategories || iouType !== "keypoints";
  const none: Overlap = (_d, _g, out) => void out.fill(0);
  const ignored = ignoredObjects(gt, areas);
  const matches = match(
    dt,
    gt,
    ignored,
    (visit) => byImage.forEach((d, k) => eachGroup(d, dt.image, objects[k]!, gt.image, maxDets.at(-1)!, visit)),
    compares ? overlapOf(dt, gt, lowestOverlap(thresholds), parameters) : none,
    parameters,
  );
  /** [K, A] how many are to be found. */
  const positives = objects.flatMap((rows) =>
    areas.map((_, a) => rows.reduce((n, row) => n + (ignored[row * areas.length + a] ? 0 : 1), 0)),
  );
  const accumulated = accumulate(split(ranked, found, K), dt.score, matches, positives, parameters);
  return {
    ...accumulated,
    stats: summarize(accumulated, parameters),
    categories,
    parameters,
  };
}

/** Rows by class, in their order. */
function split(rows: Int32Array, classes: Int32Array, K: number): Int32Array[] {
  const sorted = byKey(rows, classes, K);
  let from = 0;
  return Array.from({ length: K }, (_, k) => {
    let to = from;
    while (to < sorted.length && classes[sorted[to]!] === k) to++;
    const own = sorted.subarray(from, to);
    from = to;
    return own;
  });
}

function checked(parameters: Parameters, gt: GroundTruth, dt: Detections): Parameters {
  const { iouType, thresholds, maxDets, categories, sigmas } = parameters;
  if (thresholds.length < 1 || thresholds.length > 31)
    throw new Error(`Expected 1 to 31 thresholds but received ${thresholds.length}.`);
  if (maxDets.some((n) => !Number.isInteger(n) || n < 1))
    throw new Error(`Expected positive integers for maxDets but received ${maxDets.join(", ")}.`);
  const unknown = categories?.find((id) => !gt.categories.some((c) => c.id === id));
  if (unknown !== undefined)
    throw new Error(
      `Category ${unknown} is not in the ground truth. It has ${gt.categories.map((c) => `${c.id} (${c.name})`).join(", ")}.`,
    );
  if (iouType === "keypoints")
    for (const [what, { keypoints, length }] of Object.entries({ "ground truth": gt, detections: dt }))
      if (length > 0 && keypoints!.length !== 3 * sigmas.length * length)
        throw new Error(
          `Expected ${sigmas.length} keypoints, one a sigma, but those of the ${what} are ${keypoints!.length / length / 3}.`,
        );
  return { ...parameters, maxDets: [...maxDets].sort((a, b) => a - b) };
}
