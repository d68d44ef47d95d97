/** Has the representation collapsed? Numbers about features, and a sentence when they look bad. */
import type { Features } from "./features.js";

export interface CollapsePanel {
  /** Mean over dimensions of the standard deviation of unit-length features, times √D: about 1 spread out, 0 collapsed. */
  std: number;
  /** exp of the entropy of the covariance spectrum (RankMe, Garrido et al., 2023): how many directions are used. */
  effectiveRank: number;
  width: number;
}

/** `features` are unit rows. At most 2,000 rows and 256 dimensions are looked at for the spectrum. */
export function collapsePanel({ data, length, width }: Features): CollapsePanel {
  const n = Math.min(length, 2000);
  const mean = new Float64Array(width);
  const square = new Float64Array(width);
  for (let i = 0; i < n; i++)
    for (let d = 0; d < width; d++) {
      const v = data[i * width + d]!;
      mean[d]! += v / n;
      square[d]! += (v * v) / n;
    }
  const std = square.reduce((s, v, d) => s + Math.sqrt(Math.max(0, v - mean[d]! ** 2)), 0) / width;
  return { std: std * Math.sqrt(width), effectiveRank: effectiveRank(data, n, width, mean), width };
}

/** exp(−Σ p log p) over the eigenvalues of the covariance, by Jacobi rotations on at most 128 leading dimensions of a fixed projection. */
function effectiveRank(data: Float32Array, n: number, width: number, mean: Float64Array): number {
  const d = Math.min(width, 128);
  const stride = width / d;
  const cov = Array.from({ length: d }, () => new Float64Array(d));
  const row = new Float64Array(d);
  for (let i = 0; i < n; i++) {
    for (let a = 0; a < d; a++) {
      const at = Math.floor(a * stride);
      row[a] = data[i * width + at]! - mean[at]!;
    }
    for (let a = 0; a < d; a++) for (let b = 0; b <= a; b++) cov[a]![b]! += (row[a]! * row[b]!) / n;
  }
  for (let a = 0; a < d; a++) for (let b = 0; b < a; b++) cov[b]![a] = cov[a]![b]!;
  const values = eigenvalues(cov).map((v) => Math.max(v, 0));
  const total = values.reduce((a, b) => a + b, 0);
  if (total < 1e-12) return 1;
  const entropy = values.reduce((s, v) => (v > 0 ? s - (v / total) * Math.log(v / total) : s), 0);
  return Math.exp(entropy);
}

/** Eigenvalues of a symmetric matrix by cyclic Jacobi rotations. */
function eigenvalues(a: Float64Array[]): number[] {
  const n = a.length;
  for (let sweep = 0; sweep < 8; sweep++) {
    for (let p = 0; p < n - 1; p++)
      for (let q = p + 1; q < n; q++) {
        const apq = a[p]![q]!;
        if (Math.abs(apq) < 1e-14) continue;
        const theta = (a[q]![q]! - a[p]![p]!) / (2 * apq);
        const t = Math.sign(theta || 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
        const c = 1 / Math.sqrt(t * t + 1);
        const s = t * c;
        for (let k = 0; k < n; k++) {
          const [x, y] = [a[k]![p]!, a[k]![q]!];
          a[k]![p] = c * x - s * y;
          a[k]![q] = s * x + c * y;
        }
        for (let k = 0; k < n; k++) {
          const [x, y] = [a[p]![k]!, a[q]![k]!];
          a[p]![k] = c * x - s * y;
          a[q]![k] = s * x + c * y;
        }
      }
  }
  return a.map((r, i) => r[i]!);
}

/** A plain sentence when features collapse; undefined when they look alive. */
export function collapseWarning({ std, effectiveRank: rank, width }: CollapsePanel): string | undefined {
  if (std < 0.05)
    return `The features have collapsed: their spread is ${std.toFixed(3)} of 1. All images look alike to the encoder.`;
  if (rank < Math.min(3, width))
    return `The features use only about ${rank.toFixed(1)} of ${width} directions: dimensional collapse.`;
  return undefined;
}
