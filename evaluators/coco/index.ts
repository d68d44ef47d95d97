/**
 * COCO evaluation with the answers of pycocotools (Lin et al., ECCV 2014, arXiv 1405.0312; its cocoeval.py and maskApi.c), bit for bit: files or
 * columns in, precision over recall and the twelve numbers out.
 */
import { accumulate, type Accumulated } from "./accumulate.js";
import type { Detections, GroundTruth } from "./columns.js";
import { ignoredObjects, lowestOverlap, match } from "./match.js";
import { allRows, byKey, byScore } from "./order.js";
import { overlapOf, type Group, type Overlap } from "./overlap.js";
import { defaultParameters, type Parameters } from "./parameters.js";
import { average, summarize } from "./summary.js";

export * as mask from "./mask.js";
export type { Accumulated } from "./accumulate.js";
export { iouTypes, Masks, type Detections, type GroundTruth, type IouType, type Objects } from "./columns.js";
export { bytesSource, fileSource, type Source } from "./json.js";
export { defaultParameters, type AreaRange, type Parameters } from "./parameters.js";
export { readDetections, readGroundTruth, type Read } from "./read.js";
export { table } from "./summary.js";

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
  const { useCategories, areas, thresholds, iouType } = parameters;
  const categories = gt.categories.filter(({ id }) => parameters.categories?.includes(id) ?? true);
  const K = useCategories ? categories.length : 1;

  const place = new Map(categories.map((c, k) => [c, k]));
  const classOf = gt.categories.map((c) => (useCategories ? (place.get(c) ?? -1) : place.has(c) ? 0 : -1));
  const wanted = parameters.images && new Set(parameters.images);
  const images = gt.images.id.length;
  /** Class and image of each row: −1 where it does not count. */
  const keysOf = ({ image, category }: GroundTruth | Detections) => {
    const counts = (i: number) => image[i]! >= 0 && (!wanted || wanted.has(gt.images.id[image[i]!]!));
    return {
      classes: category.map((c, i) => (c >= 0 && counts(i) ? classOf[c]! : -1)),
      rows: byKey(byKey(allRows(image.length), category, gt.categories.length), image, images),
    };
  };
  const truths = keysOf(gt);
  const found = keysOf(dt);
  const ranked = byScore(found.rows, dt.score);
  const g = byKey(truths.rows, truths.classes, K);
  const d = byKey(byKey(ranked, dt.image, images), found.classes, K);

  // pycocotools compares no keypoints across categories
  const compares = useCategories || iouType !== "keypoints";
  const none: Overlap = (d, g, out) => void out.fill(0);
  const matches = match(
    dt,
    gt,
    (visit) => eachGroup(d, found.classes, dt.image, g, truths.classes, gt.image, visit),
    compares ? overlapOf(dt, gt, lowestOverlap(thresholds), parameters) : none,
    parameters,
  );
  const objects = new Int32Array(K * areas.length);
  const ignored = ignoredObjects(gt, areas);
  for (const row of g)
    for (let a = 0; a < areas.length; a++)
      if (!ignored[a * gt.length + row]) objects[truths.classes[row]! * areas.length + a]!++;
  const accumulated = accumulate(split(ranked, found.classes, K), dt.score, matches, objects, parameters);
  return {
    ...accumulated,
    stats: summarize(accumulated, parameters),
    categories: useCategories ? categories : [{ id: -1, name: "" }],
    parameters,
  };
}

/** Walks detections and truths, both in order of class and image, and visits those of the same. */
function eachGroup(
  d: Int32Array,
  dClass: Int32Array,
  dImage: Int32Array,
  g: Int32Array,
  gClass: Int32Array,
  gImage: Int32Array,
  visit: (d: Group, g: Group) => void,
): void {
  let gFrom = 0;
  for (let from = 0, to: number; from < d.length; from = to) {
    const [k, image] = [dClass[d[from]!]!, dImage[d[from]!]!];
    for (to = from + 1; to < d.length && dClass[d[to]!] === k && dImage[d[to]!] === image;) to++;
    const before = (row: number): boolean => gClass[row]! < k || (gClass[row] === k && gImage[row]! < image);
    while (gFrom < g.length && before(g[gFrom]!)) gFrom++;
    let gTo = gFrom;
    while (gTo < g.length && gClass[g[gTo]!] === k && gImage[g[gTo]!] === image) gTo++;
    visit({ rows: d, from, to }, { rows: g, from: gFrom, to: gTo });
    gFrom = gTo;
  }
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
