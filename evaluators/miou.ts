/** Semantic segmentation: intersection over union of label maps, all pixels of all images counted together, as in VOC and Cityscapes. */
import type { LabelMap } from "../src/data/labelPng.js";

export interface MiouOptions {
  /** Label of the truth whose pixels do not count. */
  ignore: number;
  /** Classes 0 … classes − 1; one more than the highest label without. */
  classes?: number;
  /** Also score the pixels near borders. */
  boundary?: boolean;
}
export const miouDefaults: MiouOptions = { ignore: 255 };

export interface MiouResult {
  /** Means over the classes that occur, per cent. */
  miou: number;
  meanAccuracy: number;
  /** Per cent of the pixels. */
  pixelAccuracy: number;
  /** Per class, per cent; null where neither truth nor prediction has it. */
  iou: (number | null)[];
  boundaryIou?: (number | null)[];
  boundaryMiou?: number;
  /** [truth][prediction] pixels; a last column counts predictions of no class. */
  confusion: number[][];
}

export interface LabelPair {
  name: string;
  truth: LabelMap;
  prediction: LabelMap;
}

/** Scores pairs of label maps. */
export function miou(pairs: Iterable<LabelPair>, options: Partial<MiouOptions> = {}): MiouResult {
  const counter = miouCounter(options);
  for (const pair of pairs) counter.add(pair);
  return counter.result();
}

/** The same for pairs that come one by one. */
export function miouCounter(options: Partial<MiouOptions> = {}): { add(pair: LabelPair): void; result(): MiouResult } {
  const { ignore, classes, boundary } = { ...miouDefaults, ...options };
  const pixels = new Counts(classes);
  const edges = new Counts(classes);
  return {
    add({ name, truth, prediction }) {
      if (truth.width !== prediction.width || truth.height !== prediction.height)
        throw new Error(
          `The prediction for ${name} is ${prediction.width} × ${prediction.height}, its truth ${truth.width} × ${truth.height}.`,
        );
      const inner = boundary ? [interior(truth), interior(prediction)] : [];
      truth.labels.forEach((t, i) => {
        if (t === ignore) return;
        const p = prediction.labels[i]!;
        if (classes !== undefined && t >= classes)
          throw new Error(`The truth of ${name} has label ${t}; ${classes} classes are 0 to ${classes - 1}.`);
        pixels.add(t, p === ignore ? -1 : p);
        if (!boundary) return;
        const [atTruth, atPrediction] = inner.map((own) => !own[i]) as [boolean, boolean];
        if (atTruth || atPrediction) edges.add(atTruth ? t : -1, atPrediction && p !== ignore ? p : -1);
      });
    },
    result() {
      const n = classes ?? Math.max(pixels.size, edges.size);
      const iou = pixels.iou(n);
      const totals = Array.from({ length: n }, (_, c) => pixels.row(c, n).reduce((a, b) => a + b, 0));
      const right = Array.from({ length: n }, (_, c) => pixels.get(c, c));
      const boundaryIou = boundary ? edges.iou(n) : undefined;
      return {
        miou: meanOf(iou),
        meanAccuracy: meanOf(totals.map((total, c) => (total ? (100 * right[c]!) / total : null))),
        pixelAccuracy: (100 * sumOf(right)) / sumOf(totals),
        iou,
        ...(boundaryIou && { boundaryIou, boundaryMiou: meanOf(boundaryIou) }),
        confusion: Array.from({ length: n }, (_, c) => pixels.row(c, n)),
      };
    },
  };
}

const sumOf = (values: number[]): number => values.reduce((a, b) => a + b, 0);
const meanOf = (values: (number | null)[]): number => {
  const present = values.filter((v) => v !== null);
  return sumOf(present) / present.length;
};

/** Pixels by truth and prediction, −1 for none. */
class Counts {
  /** [size + 1, size + 1], none first. */
  private cells = new Float64Array(1);
  size = 0;
  constructor(classes = 0) {
    this.grow(classes);
  }
  private grow(size: number): void {
    const old = { cells: this.cells, size: this.size };
    this.size = size;
    this.cells = new Float64Array((size + 1) ** 2);
    for (let t = 0; t <= old.size; t++)
      for (let p = 0; p <= old.size; p++) this.cells[t * (size + 1) + p] = old.cells[t * (old.size + 1) + p]!;
  }
  add(truth: number, prediction: number): void {
    if (truth >= this.size || prediction >= this.size) this.grow(Math.max(truth, prediction) + 1);
    this.cells[(truth + 1) * (this.size + 1) + prediction + 1]!++;
  }
  get(truth: number, prediction: number): number {
    return truth < this.size && prediction < this.size
      ? this.cells[(truth + 1) * (this.size + 1) + prediction + 1]!
      : 0;
  }
  /** Of n classes, and at the end of none or of others. */
  row(truth: number, n: number): number[] {
    const own = this.classes(n).map((p) => this.get(truth, p));
    const all = sumOf([-1, ...this.classes(this.size)].map((p) => this.get(truth, p)));
    return [...own, all - sumOf(own)];
  }
  iou(n: number): (number | null)[] {
    const every = [-1, ...this.classes(this.size)];
    return this.classes(n).map((c) => {
      const both = this.get(c, c);
      const union = sumOf(every.map((o) => this.get(c, o) + this.get(o, c))) - both;
      return union ? (100 * both) / union : null;
    });
  }
  private classes = (n: number): number[] => Array.from({ length: n }, (_, c) => c);
}

/**
 * 1 where all pixels within d (a square; d is 2 % of the diagonal) have the pixel's label and lie in the image: what Boundary IoU (Cheng et al.,
 * CVPR 2021, arXiv 2103.16562) leaves out.
 */
export function interior({ width, height, labels }: LabelMap): Uint8Array {
  const d = Math.max(1, Math.round(0.02 * Math.hypot(width, height)));
  const along = runs(labels, height, width, width, 1, d, () => true);
  return runs(labels, width, height, 1, width, d, (i) => along[i] === 1);
}
/** 1 where the d pixels on both sides of a line have the same label and are `kept`. */
function runs(
  labels: Uint16Array,
  lines: number,
  length: number,
  lineStep: number,
  step: number,
  d: number,
  kept: (i: number) => boolean,
): Uint8Array {
  const inner = new Uint8Array(labels.length);
  for (let line = 0; line < lines; line++) {
    let from = 0;
    for (let k = 0; k <= length; k++) {
      const at = line * lineStep + k * step;
      const goesOn = k < length && k > from && labels[at] === labels[at - step] && kept(at);
      if (goesOn) continue;
      for (let j = from + d; j < k - d; j++) inner[line * lineStep + j * step] = 1;
      from = k < length && kept(at) ? k : k + 1;
    }
  }
  return inner;
}
