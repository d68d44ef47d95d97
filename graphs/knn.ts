/** Weighted k-nearest neighbours as a graph (Wu et al., CVPR 2018, arXiv 1805.01978). */
import { constant, input, type Value } from "../src/onnx/graph.js";
import { toModel } from "../src/onnx/model.js";
import {
  Equal,
  Exp,
  Gather,
  Gemm,
  MatMul,
  Mul,
  ReduceMean,
  Squeeze,
  Sub,
  TopK,
  Unsqueeze,
  Where,
} from "../src/ops/index.js";

/** A bag of patches as one row an image: the mean over patches of features [P,N,D] → [N,D]. */
export const bagMean = (features: Value): Value => ReduceMean(features, { axes: [0], keepdims: 0 });

export interface KnnGraphOptions {
  /** Rows of the bank, feature width, classes. */
  bank: number;
  width: number;
  classes: number;
  k: number;
  temperature: number;
  /** A query is itself in the bank at row `self` and must not vote. */
  leaveOneOut: boolean;
}

/**
 * Inputs `queries` [Q,D] and `bank` [N,D], L2-normalised, `onehot` [N,C] of the bank's labels (and `self` int64 [Q] with leaveOneOut).
 * Outputs `scores` [Q,C]: Σ over the k most similar of exp(sim/τ)·[label = c], and `neighbors` [Q,k], nearest first.
 */
export function knnModel({ bank: n, width, classes, k, temperature, leaveOneOut }: KnnGraphOptions): Uint8Array {
  const queries = input("queries", "float32", ["Q", width]);
  const bank = input("bank", "float32", [n, width]);
  const onehot = input("onehot", "float32", [n, classes]);
  const self = input("self", "int64", ["Q"]);
  let similarities: Value = Gemm(queries, bank, null, { transB: 1 }); // [Q, N]
  if (leaveOneOut) {
    const rows = constant(
      [1, n],
      Array.from({ length: n }, (_, i) => i),
      "int64",
    );
    similarities = Where(Equal(Unsqueeze(self, [1]), rows), -2, similarities);
  }
  const [nearest, neighbors] = TopK(similarities, k, { axis: 1 }); // [Q, k]
  const votes = Exp(Mul(Sub(nearest, 1), 1 / temperature)); // shifted by the largest similarity there can be
  const scores = Squeeze(MatMul(Unsqueeze(votes, [1]), Gather(onehot, neighbors)), [1]); // [Q,1,k]·[Q,k,C]
  return toModel({
    name: "knn",
    inputs: leaveOneOut ? [queries, bank, onehot, self] : [queries, bank, onehot],
    outputs: { scores, neighbors },
  });
}
