/** Principal components of features: pictures of what a dense map sees. */
import { random } from "../src/random.js";
import type { Features } from "./features.js";

/**
 * Coordinates [N, k] of rows [N, D] on their k leading principal directions, by orthogonal iteration: V ← orth(Xᵀ(X·V)), X centred.
 */
export function principalComponents({ data, length, width }: Features, k: number, iterations = 60): Features {
  const x = Float64Array.from(data);
  for (let d = 0; d < width; d++) {
    let mean = 0;
    for (let i = 0; i < length; i++) mean += data[i * width + d]! / length;
    for (let i = 0; i < length; i++) x[i * width + d]! -= mean;
  }
  const r = random(0, "principal");
  let v = orthonormal(Array.from({ length: k }, () => Float64Array.from({ length: width }, () => r.normal())));
  const projected = (): Float64Array[] =>
    v.map((direction) =>
      Float64Array.from({ length }, (_, i) => dot(x.subarray(i * width, (i + 1) * width), direction)),
    );
  for (let n = 0; n < iterations; n++)
    v = orthonormal(
      projected().map((p) => {
        const back = new Float64Array(width);
        for (let i = 0; i < length; i++) for (let d = 0; d < width; d++) back[d]! += p[i]! * x[i * width + d]!;
        return back;
      }),
    );
  const coordinates = projected();
  const out = new Float32Array(length * k);
  for (let i = 0; i < length; i++) for (let c = 0; c < k; c++) out[i * k + c] = coordinates[c]![i]!;
  return { data: out, length, width: k };
}

const dot = (a: Float64Array, b: Float64Array): number => a.reduce((s, v, i) => s + v * b[i]!, 0);

/** Gram–Schmidt; a direction that the ones before it span becomes zero. */
function orthonormal(vectors: Float64Array[]): Float64Array[] {
  const out: Float64Array[] = [];
  for (const v of vectors) {
    const size = Math.sqrt(dot(v, v));
    for (const u of out) {
      const along = dot(u, v);
      for (let d = 0; d < v.length; d++) v[d]! -= along * u[d]!;
    }
    const norm = Math.sqrt(dot(v, v));
    out.push(v.map((value) => (norm > 1e-12 * size ? value / norm : 0)));
  }
  return out;
}
