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
      const wanted = positives[k * A + a]!;
      const needed = detectionsNeeded(recalls, wanted);
      for (let m = 0; m < M; m++) {
        // more than the deepest are the same detections
        if (wanted > 0 && (m === 0 || maxDets[m - 1]! <= deepest)) curves.draw(rows, score, matches, a, maxDets[m]!);
        for (let t = 0; t < T; t++) {
          recall[((t * K + k) * A + a) * M + m] = wanted > 0 ? curves.found[t]! / wanted : -1;
          const [at, stride] = [((t * R * K + k) * A + a) * M + m, K * A * M];
          if (wanted > 0) curves.read(t, needed, recalls, precision, scores, at, stride);
          else for (let r = 0; r < R; r++) precision[at + r * stride] = scores[at + r * stride] = -1;
        }
      }
    }
  });
  return { T, R, K, A, M, precision, recall, scores };
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
  /** [T, n] of the ones that did: the highest precision from each on. */
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

  draw(rows: Int32Array, score: Float64Array, matches: Matches, area: number, maxDet: number): void {
    const { T, n, found, ignored, precision } = this;
    const { rank, matched, ignored: left } = matches;
    const first = area * score.length;
    const every = 2 ** T - 1;
    found.fill(0);
    ignored.fill(0);
    this.drawn = 0;
    let counted = 0;
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i]!;
      if (rank[row]! < 0 || rank[row]! >= maxDet) continue;
      if (this.drawn++ === 0) this.firstScore = score[row]!;
      const hits = matched[first + row]!;
      const out = left[first + row]!;
      if (out === every) continue;
      counted++;
      for (let t = 0, bits = hits | out; bits !== 0; t++, bits >>= 1) {
        const bit = 1 << t;
        if (out & bit) ignored[t]!++;
        else if (hits & bit) {
          const at = t * n + found[t]!;
          precision[at] = ++found[t]! / (counted - ignored[t]! + Number.EPSILON);
          this.score[at] = score[row]!;
        }
      }
    }
    for (let t = 0; t < T; t++)
      for (let i = t * n + found[t]! - 1; i > t * n; i--)
        if (precision[i]! > precision[i - 1]!) precision[i - 1] = precision[i]!;
  }

  /** Writes the highest precision at or beyond each recall, and the score there, to out[at], out[at + stride], …, as far as it is reached. */
  read(
    t: number,
    needed: Int32Array,
    recalls: Float64Array,
    precision: Float64Array,
    scores: Float64Array,
    at: number,
    stride: number,
  ): void {
    const before = t * this.n - 1;
    const found = this.found[t]!;
    for (let r = 0; r < needed.length && needed[r]! <= found; r++) {
      precision[at + r * stride] = this.precision[before + needed[r]!]!;
      scores[at + r * stride] = this.score[before + needed[r]!]!;
    }
    // recall 0 is reached with the first detection, whether or not it finds anything
    for (let r = 0; this.drawn > 0 && recalls[r]! <= 0; r++) scores[at + r * stride] = this.firstScore;
  }
}
