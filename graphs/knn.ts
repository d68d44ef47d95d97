/** k-nearest neighbours as a graph (Wu et al., CVPR 2018, arXiv 1805.01978), for several k at once. */
import { constant, input, type Value } from "../src/onnx/graph.js";
import { toModel } from "../src/onnx/model.js";
import {
  Add,
  Cast,
  Concat,
  Equal,
  Exp,
  Gather,
  Gemm,
  Mul,
  ReduceMean,
  ScatterElements,
  Slice,
  Sub,
  TopK,
  Unsqueeze,
  Where,
} from "../src/ops/index.js";
import { places } from "./places.js";

/** A bag of patches as one row an image: the mean over patches of features [P,N,D] → [N,D]. */
export const bagMean = (features: Value): Value => ReduceMean(features, { axes: [0], keepdims: 0 });

export interface KnnGraphOptions {
  /** Rows of the bank, feature width, classes. */
  bank: number;
  width: number;
  classes: number;
  /** How many neighbours vote: K counts. */
  k: readonly number[];
  temperature: number;
  /** weighted: exp(similarity/τ) each; majority: one each, and a tie goes to the more similar side. */
  vote: "weighted" | "majority";
  /** A query is itself in the bank at row `self` and must not vote. */
  leaveOneOut: boolean;
}

/**
 * Inputs `queries` [Q,D] and `bank` [N,D], L2-normalised, their `labels` [Q] and `bankLabels` [N], int64 (and `self` int64 [Q] with
 * leaveOneOut). Outputs `scores` [Q,K,C]: Σ over the k most similar of vote·[label = c]; `places` [Q,K] of the own class among
 * them, 0 the best; `neighbors` [Q, max k], nearest first.
 */
export function knnModel({ bank: n, width, classes, k, temperature, vote, leaveOneOut }: KnnGraphOptions): Uint8Array {
  const queries = input("queries", "float32", ["Q", width]);
  const bank = input("bank", "float32", [n, width]);
  const labels = input("labels", "int64", ["Q"]);
  const bankLabels = input("bankLabels", "int64", [n]);
  const self = input("self", "int64", ["Q"]);
  let similarities: Value = Gemm(queries, bank, null, { transB: 1 }); // [Q,N]
  if (leaveOneOut) similarities = Where(Equal(Unsqueeze(self, [1]), index(n)), -2, similarities);
  const [nearest, neighbors] = TopK(similarities, Math.max(...k), { axis: 1 }); // [Q,M]
  const closeness = Exp(Mul(Sub(nearest, 1), 1 / temperature)); // shifted by the largest similarity there can be: 0–1
  const votes = vote === "weighted" ? closeness : nearOne(closeness, Math.max(...k));
  const none = Mul(Cast(Unsqueeze(labels, [1]), "float32"), constant([1, classes], Array<number>(classes).fill(0))); // [Q,C]
  const scores = Concat(
    counted(votes, Gather(bankLabels, neighbors), none, k).map((v) => Unsqueeze(v, [1])),
    { axis: 1 },
  );
  return toModel({
    name: "knn",
    inputs: [queries, bank, labels, bankLabels, ...(leaveOneOut ? [self] : [])],
    outputs: { scores, places: places(scores, labels), neighbors },
  });
}

/** 0…n−1 as int64 [1,n] */
const index = (n: number): Value =>
  constant(
    [1, n],
    Array.from({ length: n }, (_, i) => i),
    "int64",
  );

/** For each k the votes [Q,M] of the first k neighbours, added up by their classes [Q,M]: the smaller counts are parts of the larger. */
function counted(votes: Value, classes: Value, none: Value, k: readonly number[]): Value[] {
  const sums = new Map<number, Value>();
  let [sum, from] = [none, 0];
  for (const to of [...new Set(k)].sort((a, b) => a - b)) {
    const part = (v: Value) => Slice(v, { starts: [from], ends: [to], axes: [1] });
    sum = ScatterElements(sum, part(classes), part(votes), { axis: 1, reduction: "add" });
    sums.set(to, sum);
    from = to;
  }
  return k.map((count) => sums.get(count)!);
}

/** 1 + closeness/2M: a whole vote each, and among equal counts the more similar neighbours win. */
const nearOne = (closeness: Value, most: number): Value => Add(Mul(closeness, 1 / (2 * most)), 1);
