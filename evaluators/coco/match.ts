/** Which detection finds which object, per category and image, as pycocotools' evaluateImg matches them. */
import type { Detections, GroundTruth } from "./columns.js";
import type { Group } from "./groups.js";
import type { Overlap } from "./overlap.js";
import type { Parameters } from "./parameters.js";

/** Per detection and area range [n, A], a bit per threshold. */
export interface Matches {
  A: number;
  /** Found an object, ignored ones included. */
  matched: Int32Array;
  /** Counts neither for nor against: its object is ignored, or it found none and lies outside the area range. */
  ignored: Int32Array;
  /** [n] place by score within its image and category; −1 where it was not looked at. */
  rank: Int32Array;
}

/** Whether each row lies outside each area range [n, A]. */
function outside(area: Float64Array, areas: Parameters["areas"]): Uint8Array {
  const out = new Uint8Array(area.length * areas.length);
  for (let i = 0, at = 0; i < area.length; i++) {
    const size = area[i]!;
    for (let a = 0; a < areas.length; a++, at++) if (size < areas[a]!.min || size > areas[a]!.max) out[at] = 1;
  }
  return out;
}

/** Whether each object is ignored in each area range [n, A]: crowds, objects without labelled keypoints, and those outside the range. */
export function ignoredObjects({ length, crowd, labelled, area }: GroundTruth, areas: Parameters["areas"]): Uint8Array {
  const ignored = outside(area, areas);
  for (let i = 0; i < length; i++)
    if (crowd[i] === 1 || labelled?.[i] === 0) ignored.fill(1, i * areas.length, (i + 1) * areas.length);
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
    for (let i = d.from, at = 0, n = 0; i < d.to; i++) {
      const before = n;
      for (let j = 0; j < objects; j++, at++) {
        if (this.overlaps[at]! < lowest) continue;
        this.object[n] = g.rows[g.from + j]!;
        this.overlap[n++] = this.overlaps[at]!;
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
  ignoredObject: Uint8Array,
  groups: (visit: (d: Group, g: Group) => void) => void,
  overlap: Overlap,
  { thresholds, areas }: Pick<Parameters, "thresholds" | "areas">,
): Matches {
  const A = areas.length;
  const matched = new Int32Array(dt.length * A);
  const ignored = new Int32Array(dt.length * A);
  const rank = new Int32Array(dt.length).fill(-1);
  /** [objects, A] the thresholds at which it was found, a bit each. */
  const taken = new Int32Array(gt.length * A);
  const every = 2 ** thresholds.length - 1;
  const asked = thresholds.map(reached);
  const lowest = lowestOverlap(thresholds);
  const pairs = new Pairs();

  /** A detection finds an object, at the thresholds of which `bits` has one. */
  const find = (a: number, detection: number, object: number, bits: number): void => {
    taken[object * A + a]! |= bits;
    if (gt.id[object] !== 0) matched[detection * A + a]! |= bits; // pycocotools notes the object's id, and takes 0 for none
    if (ignoredObject[object * A + a]) ignored[detection * A + a]! |= bits;
  };
  /** Where a detection has one pair only, it finds its object at all thresholds that the overlap reaches. */
  const matchOne = (detection: number, object: number, overlap: number): void => {
    let bits = 0;
    for (let t = 0; t < asked.length; t++) if (!(overlap < asked[t]!)) bits |= 1 << t;
    for (let a = 0; a < A; a++) find(a, detection, object, gt.crowd[object] ? bits : bits & ~taken[object * A + a]!);
  };
  const matchAt = (a: number, threshold: number, detection: number, from: number, to: number): void => {
    const bit = 1 << threshold;
    const { object, overlap } = pairs;
    let best = -1;
    let highest = asked[threshold]!;
    for (let p = from; p < to; p++) {
      const at = object[p]! * A + a;
      if (ignoredObject[at] || taken[at]! & bit || overlap[p]! < highest) continue;
      highest = overlap[p]!;
      best = object[p]!;
    }
    const wanted = best >= 0;
    for (let p = from; !wanted && p < to; p++) {
      const at = object[p]! * A + a;
      if (!ignoredObject[at] || (taken[at]! & bit && !gt.crowd[object[p]!]) || overlap[p]! < highest) continue;
      highest = overlap[p]!;
      best = object[p]!;
    }
    if (best >= 0) find(a, detection, best, bit);
  };
  groups((d, g) => {
    for (let i = d.from; i < d.to; i++) rank[d.rows[i]!] = i - d.from;
    if (g.to === g.from) return;
    pairs.find(d, g, overlap, lowest);
    for (let i = 0, from = 0; i < pairs.detections; from = pairs.end[i++]!) {
      const detection = pairs.detection[i]!;
      const end = pairs.end[i]!;
      if (end === from + 1) matchOne(detection, pairs.object[from]!, pairs.overlap[from]!);
      else for (let a = 0; a < A; a++) for (let t = 0; t < asked.length; t++) matchAt(a, t, detection, from, end);
    }
  });

  const out = outside(dt.area, areas);
  for (let at = 0; at < out.length; at++) if (out[at]) ignored[at]! |= every & ~matched[at]!;
  return { A, matched, ignored, rank };
}
