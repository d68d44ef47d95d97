/** Which detection finds which object, per category and image, as pycocotools' evaluateImg matches them. */
import type { Detections, GroundTruth } from "./columns.js";
import type { Group } from "./groups.js";
import type { Overlap } from "./overlap.js";
import type { Parameters } from "./parameters.js";

/** Per area range and detection [A, n], a bit per threshold. */
export interface Matches {
  /** Found an object, ignored ones included. */
  matched: Int32Array;
  /** Counts neither for nor against: its object is ignored, or it found none and lies outside the area range. */
  ignored: Int32Array;
  /** [n] place by score within its image and category; −1 where it was not looked at. */
  rank: Int32Array;
}

/** Whether each object [A, n] is ignored: crowds, objects without labelled keypoints, and those outside the area range. */
export function ignoredObjects({ length, crowd, labelled, area }: GroundTruth, areas: Parameters["areas"]): Uint8Array {
  const ignored = new Uint8Array(areas.length * length);
  areas.forEach(({ min, max }, a) => {
    for (let i = 0; i < length; i++)
      ignored[a * length + i] = Number(crowd[i] === 1 || labelled?.[i] === 0 || area[i]! < min || area[i]! > max);
  });
  return ignored;
}

/** The pairs of a group whose overlap may reach a threshold, by detection. */
class Pairs {
  private overlaps = new Float64Array(1 << 10);
  /** Detections that have any, and where theirs end. */
  detection = new Int32Array(1 << 7);
  end = new Int32Array(1 << 7);
  detections = 0;
  object = new Int32Array(1 << 10);
  overlap = new Float64Array(1 << 10);
  highest = 0;

  find(d: Group, g: Group, overlap: Overlap, lowest: number): void {
    const objects = g.to - g.from;
    const pairs = (d.to - d.from) * objects;
    if (this.overlaps.length < pairs) {
      this.overlaps = new Float64Array(2 * pairs);
      this.overlap = new Float64Array(2 * pairs);
      this.object = new Int32Array(2 * pairs);
    }
    if (this.detection.length < d.to - d.from) {
      this.detection = new Int32Array(2 * (d.to - d.from));
      this.end = new Int32Array(2 * (d.to - d.from));
    }
    overlap(d, g, this.overlaps);
    this.detections = 0;
    this.highest = lowest;
    for (let i = d.from, at = 0, n = 0; i < d.to; i++) {
      const before = n;
      for (let j = 0; j < objects; j++, at++) {
        if (this.overlaps[at]! < lowest) continue;
        this.object[n] = g.rows[g.from + j]!;
        this.overlap[n++] = this.overlaps[at]!;
        if (!(this.overlaps[at]! <= this.highest)) this.highest = this.overlaps[at]!;
      }
      if (n === before) continue;
      this.detection[this.detections] = d.rows[i]!;
      this.end[this.detections++] = n;
    }
  }
}

/** The overlap that a threshold asks for. */
const reached = (threshold: number): number => Math.min(threshold, 1 - 1e-10);
export const lowestOverlap = (thresholds: Float64Array): number => Math.min(...thresholds.map(reached));

/**
 * Matches detections, in order of score, to the objects of their group: the free object of the highest overlap that reaches the threshold (the
 * last of equals); an ignored object only where no other does. Crowds stay free.
 */
export function match(
  dt: Detections,
  gt: GroundTruth,
  groups: (visit: (d: Group, g: Group) => void) => void,
  overlap: Overlap,
  { thresholds, areas, maxDets }: Parameters,
): Matches {
  const [n, objects] = [dt.length, gt.length];
  const matched = new Int32Array(areas.length * n);
  const ignored = new Int32Array(areas.length * n);
  const rank = new Int32Array(n).fill(-1);
  const ignoredObject = ignoredObjects(gt, areas);
  const lowest = lowestOverlap(thresholds);
  const pairs = new Pairs();
  /** [objects] the turn (a group's area range and threshold) in which it was last found. */
  const found = new Int32Array(objects);
  let turn = 0;

  const matchAt = (area: number, threshold: number): void => {
    const bit = 1 << threshold;
    const { object, overlap, end } = pairs;
    turn++;
    for (let i = 0, from = 0; i < pairs.detections; from = end[i++]!) {
      let best = -1;
      let highest = reached(thresholds[threshold]!);
      for (let p = from; p < end[i]!; p++) {
        const row = object[p]!;
        if (ignoredObject[area * objects + row] || found[row] === turn || overlap[p]! < highest) continue;
        highest = overlap[p]!;
        best = row;
      }
      const wanted = best >= 0;
      for (let p = from; !wanted && p < end[i]!; p++) {
        const row = object[p]!;
        if (!ignoredObject[area * objects + row] || (found[row] === turn && !gt.crowd[row]) || overlap[p]! < highest)
          continue;
        highest = overlap[p]!;
        best = row;
      }
      if (best < 0) continue;
      found[best] = turn;
      const at = area * n + pairs.detection[i]!;
      if (gt.id[best] !== 0) matched[at]! |= bit; // pycocotools notes the object's id, and takes 0 for none
      if (!wanted) ignored[at]! |= bit;
    }
  };
  groups((d, g) => {
    const to = Math.min(d.to, d.from + maxDets.at(-1)!);
    for (let i = d.from; i < to; i++) rank[d.rows[i]!] = i - d.from;
    if (to === d.from || g.to === g.from) return;
    pairs.find({ ...d, to }, g, overlap, lowest);
    if (pairs.detections === 0) return;
    for (let t = 0; t < thresholds.length; t++)
      if (!(reached(thresholds[t]!) > pairs.highest)) for (let a = 0; a < areas.length; a++) matchAt(a, t);
  });

  const every = 2 ** thresholds.length - 1;
  areas.forEach(({ min, max }, a) => {
    for (let i = 0; i < n; i++)
      if (dt.area[i]! < min || dt.area[i]! > max) ignored[a * n + i]! |= every & ~matched[a * n + i]!;
  });
  return { matched, ignored, rank };
}
