/** Weighted k-nearest neighbours on frozen features (Wu et al., CVPR 2018, arXiv 1805.01978), run as a graph on the engine. */
import { knnModel } from "../graphs/knn.js";
import type { Engine } from "../src/engines/index.js";
import { zeros } from "../src/tensor.js";
import { normalizeRows, type Features } from "./features.js";

export interface KnnOptions {
  k: number;
  temperature: number;
}
export const knnDefaults: KnnOptions = { k: 20, temperature: 0.07 };

export interface Labelled {
  features: Features;
  labels: Int32Array;
}

export interface KnnResult {
  /** Per cent. */
  top1: number;
  top5: number;
  /** Standard error of top1 in points: √(p(1−p)/n). */
  se: number;
}

/**
 * top1 and top5 of `queries` by the labels of `bank`; without queries, of the bank by itself, each image left out of its own vote.
 * Features are normalised in place.
 */
export async function knn(
  engine: Engine,
  bank: Labelled,
  queries: Labelled | undefined,
  classes: number,
  options = knnDefaults,
): Promise<KnnResult> {
  const leaveOneOut = queries === undefined;
  const asked = queries ?? bank;
  const k = Math.min(options.k, bank.features.length - (leaveOneOut ? 1 : 0));
  if (k < 1) throw new Error(`Nearest neighbours need at least 2 images but received ${bank.features.length}.`);
  normalizeRows(bank.features);
  if (!leaveOneOut) normalizeRows(asked.features);
  const { length: n, width } = bank.features;
  const onehot = zeros("float32", [n, classes]);
  bank.labels.forEach((c, i) => (onehot.data[i * classes + c] = 1));
  const session = await engine.session(
    knnModel({ bank: n, width, classes, k, temperature: options.temperature, leaveOneOut }),
  );
  let [hit1, hit5] = [0, 0];
  const chunk = 500;
  for (let start = 0; start < asked.features.length; start += chunk) {
    const count = Math.min(chunk, asked.features.length - start);
    const rows = asked.features.data.subarray(start * width, (start + count) * width) as Float32Array<ArrayBuffer>;
    const self = zeros("int64", [count]);
    for (let i = 0; i < count; i++) self.data[i] = BigInt(start + i);
    const { scores } = await session.run(
      {
        queries: { dtype: "float32", shape: [count, width], data: rows },
        bank: { dtype: "float32", shape: [n, width], data: bank.features.data as Float32Array<ArrayBuffer> },
        onehot,
        ...(leaveOneOut && { self }),
      },
      ["scores"],
    );
    for (let i = 0; i < count; i++) {
      const own = (scores!.data as Float32Array).subarray(i * classes, (i + 1) * classes);
      const better = own.filter((v) => v > own[asked.labels[start + i]!]!).length;
      if (better < 1) hit1++;
      if (better < 5) hit5++;
    }
  }
  session.release();
  const p = hit1 / asked.features.length;
  return {
    top1: 100 * p,
    top5: (100 * hit5) / asked.features.length,
    se: 100 * Math.sqrt((p * (1 - p)) / asked.features.length),
  };
}
