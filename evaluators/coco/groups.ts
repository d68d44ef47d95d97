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

/** Walks rows in ascending order of a key, detections and truths, and visits those of each key that detections have. */
export function eachGroup(
  d: Int32Array,
  dKey: Float64Array | Int32Array,
  g: Int32Array,
  gKey: Float64Array | Int32Array,
  visit: (d: Group, g: Group) => void,
): void {
  let gFrom = 0;
  for (let from = 0, to: number; from < d.length; from = to) {
    const key = dKey[d[from]!]!;
    for (to = from + 1; to < d.length && dKey[d[to]!] === key;) to++;
    while (gFrom < g.length && gKey[g[gFrom]!]! < key) gFrom++;
    let gTo = gFrom;
    while (gTo < g.length && gKey[g[gTo]!] === key) gTo++;
    visit({ rows: d, from, to }, { rows: g, from: gFrom, to: gTo });
    gFrom = gTo;
  }
}
