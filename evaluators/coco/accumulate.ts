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

/** `order`: each category's detections, by score, ties in order of images; `positives` [K, A]: how many are to be found. */
export function accumulate(
  order: readonly Int32Array[],
  score: Float64Array,
  matches: Matches,
  positives: readonly number[],
  { thresholds, recalls, areas, maxDets }: Parameters,
): Accumulated {
  const [T, R, K, A, M] = [thresholds.length, recalls.length, order.length, areas.length, maxDets.length];
  const precision = new Float64Array(T * R * K * A * M);
  const scores = new Float64Array(T * R * K * A * M);
  const recall = new Float64Array(T * K * A * M);
  const curves = new Curves(T, Math.max(0, ...order.map((rows) => rows.length)));
  order.forEach((rows, k) => {
    const deepest = rows.reduce((most, row) => Math.max(most, matches.rank[row]!), -1);
    for (let a = 0; a < A; a++) {
      const first = (k * A + a) * M;
      const wanted = positives[k * A + a]!;
      if (wanted === 0) {
        for (const out of [precision, scores, recall]) nothingToFind(out, first, M, K * A * M);
        continue;
      }
      const needed = detectionsNeeded(recalls, wanted);
      for (let m = 0; m < M; m++) {
        // more than the deepest are the same detections
        if (m === 0 || maxDets[m - 1]! <= deepest) curves.draw(rows, score, matches, a, maxDets[m]!);
        for (let t = 0; t < T; t++) {
          recall[t * K * A * M + first + m] = curves.found[t]! / wanted;
          curves.read(t, needed, recalls, { precision, scores }, t * R * K * A * M + first + m, K * A * M);
        }
      }
    }
  });
  return { T, R, K, A, M, precision, recall, scores };
}

/** Writes −1 to out[first…first + n − 1], and again at every stride. */
function nothingToFind(out: Float64Array, first: number, n: number, stride: number): void {
  for (let at = first; at < out.length; at += stride) for (let i = at; i < at + n; i++) out[i] = -1;
}

/** [R] how many that find an object reach each recall. */
function detectionsNeeded(recalls: Float64Array, positives: number): Int32Array {
  const needed = new Int32Array(recalls.length);
  for (let r = 0, n = 1; r < needed.length; r++) {
    while (n / positives < recalls[r]!) n++;
    needed[r] = n;
  }
  return needed;
}

/** Precision over recall at each threshold. Only detections that find an object raise either, so only those are kept. */
class Curves {
  /** Detections drawn, and the score of the first. */
  private drawn = 0;
  private firstScore = 0;
  /** [T] how many found an object. */
  readonly found: Int32Array;
  private readonly ignored: Int32Array;
  /** [T, n] of the ones that did: their scores, how many counted up to each, and the highest precision from each on. */
  private readonly score: Float64Array;
  private readonly counted: Int32Array;
  private readonly precision: Float64Array;

  constructor(
    private readonly T: number,
    private readonly n: number,
  ) {
    this.found = new Int32Array(T);
    this.ignored = new Int32Array(T);
    this.score = new Float64Array(T * n);
    this.counted = new Int32Array(T * n);
    this.precision = new Float64Array(T * n);
  }

  /** Draws those of an area range and of a rank below maxDet. */
  draw(rows: Int32Array, score: Float64Array, matches: Matches, a: number, maxDet: number): void {
    this.count(rows, score, matches, a, maxDet);
    for (let t = 0; t < this.T; t++) this.raise(t * this.n, this.found[t]!);
  }
  private count(rows: Int32Array, score: Float64Array, matches: Matches, a: number, maxDet: number): void {
    const { T, n, found, ignored } = this;
    const { rank, matched, ignored: left, A } = matches;
    const every = 2 ** T - 1;
    found.fill(0);
    ignored.fill(0);
    this.drawn = 0;
    let counted = 0;
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i]!;
      if (rank[row]! < 0 || rank[row]! >= maxDet) continue;
      if (this.drawn++ === 0) this.firstScore = score[row]!;
      const out = left[row * A + a]!;
      if (out === every) continue;
      const hits = matched[row * A + a]!;
      counted++;
      for (let t = 0, bits = hits | out; bits !== 0; t++, bits >>= 1) {
        const bit = 1 << t;
        if (out & bit) ignored[t]!++;
        else if (hits & bit) {
          const at = t * n + found[t]!++;
          this.score[at] = score[row]!;
          this.counted[at] = counted - ignored[t]!;
        }
      }
    }
  }
  /** Precision at each of those found, and nowhere lower than further on. */
  private raise(first: number, found: number): void {
    let highest = 0;
    for (let f = found; f > 0; f--) {
      const at = first + f - 1;
      highest = Math.max(highest, f / (this.counted[at]! + Number.EPSILON));
      this.precision[at] = highest;
    }
  }

  /** Writes the highest precision at or beyond each recall, and the score there, to out[at], out[at + stride], …, as far as it is reached. */
  read(
    t: number,
    needed: Int32Array,
    recalls: Float64Array,
    out: Pick<Accumulated, "precision" | "scores">,
    at: number,
    stride: number,
  ): void {
    const before = t * this.n - 1;
    const found = this.found[t]!;
    for (let r = 0; r < needed.length && needed[r]! <= found; r++) {
      out.precision[at + r * stride] = this.precision[before + needed[r]!]!;
      out.scores[at + r * stride] = this.score[before + needed[r]!]!;
    }
    // recall 0 is reached with the first detection, whether or not it finds anything
    for (let r = 0; this.drawn > 0 && recalls[r]! <= 0; r++) out.scores[at + r * stride] = this.firstScore;
  }
}
