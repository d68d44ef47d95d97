/**
 * TIDE: what keeps AP50 low (Bolya et al., ECCV 2020, arXiv 2008.08115; its tidecv 1.0.1). Each false positive has one reason, each object that
 * nothing finds is missed; a reason's ΔAP is what mending all of its cases alone would gain.
 */
import type { Detections, GroundTruth } from "./columns.js";
import { classesOf, eachGroup } from "./groups.js";
import { allRows, byKey, byScore } from "./order.js";
import { overlapOf, type Overlap } from "./overlap.js";
import { defaultParameters, type Parameters } from "./parameters.js";

/**
 * Cls: right place, wrong class. Loc: right class, overlap between background and foreground. Both: neither. Dupe: the object was found already.
 * Bkg: no object there. Missed: an object that no detection comes near.
 */
export const tideErrors = ["Cls", "Loc", "Both", "Dupe", "Bkg", "Missed"] as const;
export type TideError = (typeof tideErrors)[number];
const [cls, loc, both, dupe, bkg, missed] = [0, 1, 2, 3, 4, 5] as const;

export interface TideResult {
  /** AP at the foreground threshold, per cent, by TIDE's count: classes without objects but with detections have 0. */
  AP: number;
  /** ΔAP in points. */
  errors: Record<TideError, number>;
  counts: Record<TideError, number>;
}

export interface TideOptions {
  foreground: number;
  background: number;
  /** Detections of an image that count, over all classes. */
  maxDets: number;
}
export const tideDefaults: TideOptions = { foreground: 0.5, background: 0.1, maxDets: 100 };

/** What became of a detection. */
const [unseen, right, wrong, ignored] = [0, 1, 2, 3] as const;

interface Verdicts {
  /** Detections that count, image by image, by score. */
  rows: Int32Array;
  fate: Uint8Array;
  /** Of wrong and ignored detections: index into tideErrors. */
  error: Uint8Array;
  /** The object whose finding would mend it, −1 without. */
  object: Int32Array;
  /** [objects] the detection that found it; −1. */
  finder: Int32Array;
  /** [objects] the detection of highest score that could be mended to find it; −1. */
  candidate: Int32Array;
}

export function tide(
  gt: GroundTruth,
  dt: Detections,
  options: Pick<Parameters, "iouType"> & Partial<Parameters>,
  { foreground, background, maxDets }: TideOptions = tideDefaults,
): TideResult {
  const parameters = { ...defaultParameters(options.iouType), ...options };
  if (parameters.iouType === "keypoints")
    throw new Error("TIDE's errors are defined for bbox and segm, not for keypoints.");
  const [truths, found] = [classesOf(gt, gt, parameters), classesOf(dt, gt, parameters)];
  const overlap = overlapOf(dt, gt, background, parameters);
  const verdicts = judge(gt, dt, truths, found, overlap, { foreground, background, maxDets });
  const base = averagePrecision(gt, dt, truths, found, verdicts);
  const counts = countErrors(gt, truths, verdicts);
  return {
    AP: base,
    errors: named((e) => Math.max(0, averagePrecision(gt, dt, truths, found, verdicts, e) - base)),
    counts: named((e) => counts[e]!),
  };
}
const named = (value: (error: number) => number): Record<TideError, number> =>
  Object.fromEntries(tideErrors.map((name, e) => [name, value(e)])) as Record<TideError, number>;

/** Matches image by image and finds each failure's reason. */
function judge(
  gt: GroundTruth,
  dt: Detections,
  truths: Int32Array,
  found: Int32Array,
  overlap: Overlap,
  { foreground, background, maxDets }: TideOptions,
): Verdicts {
  const images = gt.images.id.length;
  const imageOf = (classes: Int32Array, image: Int32Array) => image.map((i, row) => (classes[row]! >= 0 ? i : -1));
  const [dImage, gImage] = [imageOf(found, dt.image), imageOf(truths, gt.image)];
  const d = byKey(byScore(allRows(dt.length), dt.score), dImage, images);
  const g = byKey(allRows(gt.length), gImage, images);
  const fate = new Uint8Array(dt.length).fill(unseen);
  const error = new Uint8Array(dt.length);
  const object = new Int32Array(dt.length).fill(-1);
  const finder = new Int32Array(gt.length).fill(-1);
  const candidate = new Int32Array(gt.length).fill(-1);
  const rows: number[] = [];
  let overlaps = new Float64Array(1 << 10);

  eachGroup(d, dImage, g, gImage, maxDets, (seen, group) => {
    const detections = d.subarray(seen.from, seen.to);
    const objects = g.subarray(group.from, group.to);
    if (overlaps.length < detections.length * objects.length)
      overlaps = new Float64Array(2 * detections.length * objects.length);
    overlap(seen, group, overlaps);

    /** The first object of the highest overlap with the i-th detection among those that are asked for. */
    const best = (i: number, asked: (row: number) => boolean): { row: number; overlap: number } => {
      const most = { row: -1, overlap: 0 };
      objects.forEach((row, j) => {
        const value = overlaps[i * objects.length + j]!;
        if (!gt.crowd[row] && value > most.overlap && asked(row)) [most.row, most.overlap] = [row, value];
      });
      return most;
    };
    detections.forEach((row, i) => {
      const same = (o: number): boolean => truths[o] === found[row];
      const free = best(i, (o) => same(o) && finder[o]! < 0);
      const inCrowd = () =>
        objects.some((o, j) => gt.crowd[o] && same(o) && overlaps[i * objects.length + j]! > foreground);
      fate[row] = free.overlap >= foreground ? right : inCrowd() ? ignored : wrong;
      if (fate[row] === right) finder[free.row] = row;
      rows.push(row);
    });
    detections.forEach((row, i) => {
      if (fate[row] === right) return;
      const same = (o: number): boolean => truths[o] === found[row];
      const near = best(i, same);
      const other = best(i, (o) => !same(o));
      if (near.overlap >= background && near.overlap <= foreground) [error[row], object[row]] = [loc, near.row];
      else if (other.overlap >= foreground) [error[row], object[row]] = [cls, other.row];
      else if (best(i, (o) => same(o) && finder[o]! >= 0).overlap >= foreground) error[row] = dupe;
      else error[row] = Math.max(near.overlap, other.overlap) <= background ? bkg : both;
      const mended = object[row]!;
      if (mended < 0 || finder[mended]! >= 0) return;
      if (candidate[mended]! < 0 || dt.score[candidate[mended]!]! < dt.score[row]!) candidate[mended] = row;
    });
  });
  return { rows: Int32Array.from(rows), fate, error, object, finder, candidate };
}

const isMissed = (gt: GroundTruth, classes: Int32Array, { finder, candidate }: Verdicts, row: number): boolean =>
  classes[row]! >= 0 && !gt.crowd[row] && finder[row]! < 0 && candidate[row]! < 0;

function countErrors(gt: GroundTruth, truths: Int32Array, verdicts: Verdicts): number[] {
  const counts = tideErrors.map(() => 0);
  for (const row of verdicts.rows) if (verdicts.fate[row] !== right) counts[verdicts.error[row]!]!++;
  for (let row = 0; row < gt.length; row++) if (isMissed(gt, truths, verdicts, row)) counts[missed]!++;
  return counts;
}

/** AP per cent with one kind of error mended: the best of the detections that could find an object does, the others vanish. */
function averagePrecision(
  gt: GroundTruth,
  dt: Detections,
  truths: Int32Array,
  found: Int32Array,
  verdicts: Verdicts,
  mended?: number,
): number {
  const { rows, fate, error, object, candidate } = verdicts;
  const K = gt.categories.length;
  const positives = new Int32Array(K);
  for (let row = 0; row < gt.length; row++)
    if (truths[row]! >= 0 && !gt.crowd[row] && !(mended === missed && isMissed(gt, truths, verdicts, row)))
      positives[truths[row]!]!++;
  const classes = new Int32Array(dt.length).fill(-1);
  const hit = new Uint8Array(dt.length);
  for (const row of rows) {
    const own = object[row]!;
    if (fate[row] === right) [classes[row], hit[row]] = [found[row]!, 1];
    else if (error[row] !== mended) classes[row] = fate[row] === ignored ? -1 : found[row]!;
    else if (own >= 0 && candidate[own] === row) [classes[row], hit[row]] = [truths[own]!, 1];
  }
  // among equal scores TIDE puts errors, mended or not, before what was right all along
  const order =
    mended === undefined
      ? rows
      : byKey(
          rows,
          Int32Array.from(fate, (f) => (f === right ? 1 : 0)),
          2,
        );
  const ranked = byKey(byScore(order, dt.score), classes, K);
  let [sum, counted, from] = [0, 0, 0];
  for (let k = 0; k < K; k++) {
    let to = from;
    while (to < ranked.length && classes[ranked[to]!] === k) to++;
    if (to > from || positives[k]! > 0) {
      sum += areaUnderCurve(ranked.subarray(from, to), hit, positives[k]!);
      counted++;
    }
    from = to;
  }
  return counted === 0 ? 0 : sum / counted;
}

/** The mean over recalls 0, 0.01, …, 1 of the highest precision at or beyond each, per cent. */
function areaUnderCurve(ranked: Int32Array, hit: Uint8Array, positives: number): number {
  if (positives === 0) return 0;
  const precision: number[] = [];
  let hits = 0;
  ranked.forEach((row, i) => {
    if (hit[row]) precision.push(++hits / (i + 1));
  });
  for (let i = hits - 1; i > 0; i--) precision[i - 1] = Math.max(precision[i - 1]!, precision[i]!);
  let sum = 0;
  for (let r = 0, f = 0; r <= 100; r++) {
    while (f < hits && (f + 1) / positives < r / 100) f++;
    sum += precision[f] ?? 0;
  }
  return (sum / 101) * 100;
}
