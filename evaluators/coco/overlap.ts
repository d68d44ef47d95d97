/** How much detections and ground truth overlap: box IoU, mask IoU, or object keypoint similarity. */
import type { Detections, GroundTruth, Masks } from "./columns.js";
import type { Group } from "./groups.js";
import type { Parameters } from "./parameters.js";
import { Canvas } from "./polygon.js";
import { boxIouOf, iouOf } from "./rle.js";
import { sum } from "./sum.js";

/**
 * Fills out[d, g] with the overlaps of two groups. Those below `lowest` may be given as 0. Where the truth is a crowd it is the share of the
 * detection, for boxes and masks.
 */
export type Overlap = (d: Group, g: Group, out: Float64Array) => void;

export function overlapOf(
  dt: Detections,
  gt: GroundTruth,
  lowest: number,
  { iouType, sigmas }: Pick<Parameters, "iouType" | "sigmas">,
): Overlap {
  switch (iouType) {
    case "bbox":
      return boxOverlap(dt.boxes!, gt.boxes!, gt.crowd);
    case "segm":
      return maskOverlap(dt.masks!, gt.masks!, gt.crowd, lowest);
    case "keypoints":
      return keypointSimilarity(dt.keypoints!, gt, sigmas);
  }
}

function boxOverlap(dt: Float64Array, gt: Float64Array, crowd: Uint8Array): Overlap {
  return (d, g, out) => {
    let at = 0;
    for (let i = d.from; i < d.to; i++)
      for (let j = g.from; j < g.to; j++) {
        const row = g.rows[j]!;
        out[at++] = boxIouOf(dt, 4 * d.rows[i]!, gt, 4 * row, crowd[row] === 1);
      }
  };
}

/** Draws a mask only where another may overlap it enough. */
function maskOverlap(dt: Masks, gt: Masks, crowd: Uint8Array, lowest: number): Overlap {
  const canvas = new Canvas();
  /** By place in the group: where its counts begin and end on the canvas; −1 before they are drawn. */
  let drawn = new Int32Array(64);
  const draw = (masks: Masks, row: number, place: number): void => {
    if (drawn[2 * place]! >= 0) return;
    drawn[2 * place] = canvas.used;
    canvas.mask(masks, row);
    drawn[2 * place + 1] = canvas.used;
  };
  const enough = lowest * (1 - 1e-9);
  const worthDrawing = (a: number, b: number): boolean => {
    const shared = sharedArea(dt.reach.data, 4 * a, gt.reach.data, 4 * b);
    if (shared <= 0 || shared < enough * dt.pixels.data[a]!) return false;
    return crowd[b] === 1 || !(shared < enough * gt.pixels.data[b]!);
  };
  return (d, g, out) => {
    const [detections, truths] = [d.to - d.from, g.to - g.from];
    if (drawn.length < 2 * (detections + truths)) drawn = new Int32Array(4 * (detections + truths));
    drawn.fill(-1, 0, 2 * (detections + truths));
    canvas.used = 0;
    let at = 0;
    for (let i = 0; i < detections; i++) {
      const a = d.rows[d.from + i]!;
      for (let j = detections; j < detections + truths; j++, at++) {
        const b = g.rows[g.from + j - detections]!;
        out[at] = 0;
        if (!worthDrawing(a, b)) continue;
        if (dt.height.data[a] !== gt.height.data[b] || dt.width.data[a] !== gt.width.data[b]) {
          out[at] = -1;
          continue;
        }
        draw(dt, a, i);
        draw(gt, b, j);
        const [aFrom, aTo] = [drawn[2 * i]!, drawn[2 * i + 1]!];
        out[at] = iouOf(canvas.counts, aFrom, aTo, canvas.counts, drawn[2 * j]!, drawn[2 * j + 1]!, crowd[b] === 1);
      }
    }
  };
}
/** Of boxes as left, top, right, bottom. */
function sharedArea(a: Float64Array, i: number, b: Float64Array, j: number): number {
  const w = Math.min(a[i + 2]!, b[j + 2]!) - Math.max(a[i]!, b[j]!);
  const h = Math.min(a[i + 3]!, b[j + 3]!) - Math.max(a[i + 1]!, b[j + 1]!);
  return w > 0 && h > 0 ? w * h : 0;
}

/**
 * Object keypoint similarity: the mean over labelled keypoints of exp(−d²/(2 s² (2σ)²)), d the distance, s² the object's area. Without labelled
 * ones d is how far the detection's keypoints lie outside the box at three times its size.
 */
function keypointSimilarity(dt: Float64Array, gt: GroundTruth, sigmas: Float64Array): Overlap {
  const variance = sigmas.map((s) => (s * 2) ** 2);
  const width = 3 * sigmas.length;
  const boxes = gt.boxes!;
  const truth = gt.keypoints!;
  const terms = new Float64Array(sigmas.length);
  const similarity = (i: number, j: number): number => {
    const [a, b] = [i * width, j * width];
    const scale = gt.area[j]! + Number.EPSILON;
    let labelled = 0;
    for (let k = 0; k < sigmas.length; k++) if (truth[b + 3 * k + 2]! > 0) labelled++;
    const left = boxes[4 * j]! - boxes[4 * j + 2]!;
    const right = boxes[4 * j]! + boxes[4 * j + 2]! * 2;
    const top = boxes[4 * j + 1]! - boxes[4 * j + 3]!;
    const bottom = boxes[4 * j + 1]! + boxes[4 * j + 3]! * 2;
    let n = 0;
    for (let k = 0; k < sigmas.length; k++) {
      if (labelled > 0 && !(truth[b + 3 * k + 2]! > 0)) continue;
      const [x, y] = [dt[a + 3 * k]!, dt[a + 3 * k + 1]!];
      const dx = labelled > 0 ? x - truth[b + 3 * k]! : Math.max(0, left - x) + Math.max(0, x - right);
      const dy = labelled > 0 ? y - truth[b + 3 * k + 1]! : Math.max(0, top - y) + Math.max(0, y - bottom);
      terms[n++] = Math.exp(-((dx * dx + dy * dy) / variance[k]! / scale / 2));
    }
    return sum(terms, 0, n) / n;
  };
  return (d, g, out) => {
    let at = 0;
    for (let i = d.from; i < d.to; i++)
      for (let j = g.from; j < g.to; j++) out[at++] = similarity(d.rows[i]!, g.rows[j]!);
  };
}
