/** Which rows count, and which meet: detections and truths of one class and image. */
import type { GroundTruth, Objects } from "./columns.js";
import type { Parameters } from "./parameters.js";

/** Rows [from, to) of an order. */
export interface Group {
  rows: Int32Array;
  from: number;
  to: number;
}

/** The categories that are looked at, ascending by id. */
export const selectedCategories = (gt: GroundTruth, { categories }: Pick<Parameters, "categories">) =>
  gt.categories.filter(({ id }) => categories?.includes(id) ?? true);

/** [n] each row's class: its place among the selected categories, 0 where they are one; −1 where it does not count. */
export function classesOf(
  { image, category }: Objects,
  gt: GroundTruth,
  parameters: Pick<Parameters, "categories" | "images" | "useCategories">,
): Int32Array {
  const selected = selectedCategories(gt, parameters);
  const place = gt.categories.map((c) =>
    parameters.useCategories ? selected.indexOf(c) : selected.includes(c) ? 0 : -1,
  );
  const wanted = parameters.images && new Set(parameters.images);
  const counts = gt.images.id.map((id) => (wanted?.has(id) === false ? 0 : 1));
  const classes = new Int32Array(image.length).fill(-1);
  for (let i = 0; i < image.length; i++)
    if (category[i]! >= 0 && image[i]! >= 0 && counts[image[i]!]) classes[i] = place[category[i]!]!;
  return classes;
}

/**
 * Walks rows in ascending order of a key, detections and truths, and visits those of each key that detections have: the first `most` detections,
 * and all truths. The groups are the same two objects at each visit.
 */
export function eachGroup(
  detections: Int32Array,
  dKey: Int32Array,
  truths: Int32Array,
  gKey: Int32Array,
  most: number,
  visit: (d: Group, g: Group) => void,
): void {
  const d = { rows: detections, from: 0, to: 0 };
  const g = { rows: truths, from: 0, to: 0 };
  for (let from = 0, to: number; from < detections.length; from = to) {
    const key = dKey[detections[from]!]!;
    for (to = from + 1; to < detections.length && dKey[detections[to]!] === key;) to++;
    for (g.from = g.to; g.from < truths.length && gKey[truths[g.from]!]! < key;) g.from++;
    for (g.to = g.from; g.to < truths.length && gKey[truths[g.to]!] === key;) g.to++;
    d.from = from;
    d.to = Math.min(to, from + most);
    visit(d, g);
  }
}
