/** From matches to precision at each recall, as pycocotools' accumulate: −1 where there is nothing to be found. */
import type { Matches } from "./match.js";
import type { Parameters } from "./parameters.js";

export interface Accumulated {
  /** The sizes of the axes: thresholds, recalls, categories, area ranges, maxDets. */
  T: number;
  R: number;
  K: number;
  A: number;
  M: number;
  /** [T, R, K, A, M] */
  precision: Float64Array;
  /** [T, K, A, M], at the last detection. */
  recall: Float64Array;
  /** [T, R, K, A, M], of the detection with which the recall is reached. */
  scores: Float64Array;
}

/** `order`: each category's detections, by score, ties in order of images; `objects` [K, A]: how many are to be found. */
export function accumulate(
  order: readonly Int32Array[],
  score: Float64Array,
  matches: Matches,
  objects: Int32Array,
  { thresholds, recalls, areas, maxDets }: Parameters,
): Accumulated {
  const [T, R, K, A, M] = [thresholds.length, recalls.length, order.length, areas.length, maxDets.length];
  const precision = new Float64Array(T * R * K * A * M).fill(-1);
  const scores = new Float64Array(T * R * K * A * M).fill(-1);
  const recall = new Float64Array(T * K * A * M).fill(-1);
  const curve = new Curves(T, Math.max(0, ...order.map((rows) => rows.length)));
  order.forEach((rows, k) => {
    for (let a = 0; a < A; a++) {
      const positives = objects[k * A + a]!;
      if (positives === 0) continue;
      for (let m = 0; m < M; m++) {
        curve.draw(rows, score, matches, a, maxDets[m]!);
        for (let t = 0; t < T; t++) {
          recall[((t * K + k) * A + a) * M + m] = curve.found[t]! / positives;
          curve.read(t, positives, recalls, precision, scores, ((t * R * K + k) * A + a) * M + m, K * A * M);
        }
      }
    }
  });
  return { T, R, K, A, M, precision, recall, scores };
}

/** Precision over recall at each threshold. Only detections that find an object raise either, so only those are kept. */
class Curves {
  /** Detections drawn, and the score of the first. */
  private drawn = 0;
  private firstScore = 0;
  /** [T] how many found an object. */
  readonly found: Int32Array;
  private readonly ignored: Int32Array;
  /** [T, n] of the ones that did. */
  private readonly precision: Float64Array;
  private readonly score: Float64Array;

  constructor(
    private readonly T: number,
    private readonly n: number,
  ) {
    this.found = new Int32Array(T);
    this.ignored = new Int32Array(T);
    this.precision = new Float64Array(T * n);
    this.score = new Float64Array(T * n);
  }

  draw(rows: Int32Array, score: Float64Array, { rank, matched, ignored }: Matches, area: number, maxDet: number): void {
    const { T, n } = this;
    const first = area * score.length;
    const every = 2 ** T - 1;
    this.found.fill(0);
    this.ignored.fill(0);
    this.drawn = 0;
    let counted = 0;
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i]!;
      if (rank[row]! < 0 || rank[row]! >= maxDet) continue;
      if (this.drawn++ === 0) this.firstScore = score[row]!;
      const hits = matched[first + row]!;
      const left = ignored[first + row]!;
      if (left === every) continue;
      counted++;
      if ((hits | left) === 0) continue;
      for (let t = 0; t < T; t++) {
        const bit = 1 << t;
        if (left & bit) this.ignored[t]!++;
        else if (hits & bit) {
          const f = ++this.found[t]!;
          this.precision[t * n + f - 1] = f / (counted - this.ignored[t]! + Number.EPSILON);
          this.score[t * n + f - 1] = score[row]!;
        }
      }
    }
  }

  /** Writes the highest precision at or beyond each recall, and the score there, to out[at], out[at + stride], …. */
  read(
    t: number,
    positives: number,
    recalls: Float64Array,
    precision: Float64Array,
    scores: Float64Array,
    at: number,
    stride: number,
  ): void {
    const from = t * this.n;
    const found = this.found[t]!;
    const own = this.precision;
    for (let i = from + found - 1; i > from; i--) if (own[i]! > own[i - 1]!) own[i - 1] = own[i]!;
    for (let r = 0, f = 0; r < recalls.length; r++, at += stride) {
      // recall 0 is reached with the first detection, whether or not it finds anything
      const atOnce = recalls[r]! <= 0 && this.drawn > 0;
      while (!atOnce && f < found && (f + 1) / positives < recalls[r]!) f++;
      precision[at] = f < found ? own[from + f]! : 0;
      scores[at] = atOnce ? this.firstScore : f < found ? this.score[from + f]! : 0;
    }
  }
}
