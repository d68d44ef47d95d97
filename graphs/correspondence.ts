/** Nearest features: of images among images, and of places in one map among those of another. */
import { constant, input, type Value } from "../src/onnx/graph.js";
import { toModel } from "../src/onnx/model.js";
import { ArgMax, Equal, Gemm, MatMul, ReduceMax, TopK, Transpose, Unsqueeze, Where } from "../src/ops/index.js";
import { l2normalize } from "./layers.js";

/**
 * Inputs `queries` [Q,D], `bank` [N,D] and `self` int64 [Q], the row of the bank that a query must not find (−1: none).
 * Outputs `similarities` (cosine) and `neighbors` [Q,k], nearest first.
 */
export function neighborsModel({ bank: n, width, k }: { bank: number; width: number; k: number }): Uint8Array {
  const queries = input("queries", "float32", ["Q", width]);
  const bank = input("bank", "float32", [n, width]);
  const self = input("self", "int64", ["Q"]);
  const rows = constant(
    [1, n],
    Array.from({ length: n }, (_, i) => i),
    "int64",
  );
  const cosine = Gemm(l2normalize(queries), l2normalize(bank), null, { transB: 1 }); // [Q,N]
  const [similarities, neighbors] = TopK(Where(Equal(Unsqueeze(self, [1]), rows), -2, cosine), k, { axis: 1 });
  return toModel({ name: "neighbors", inputs: [queries, bank, self], outputs: { similarities, neighbors } });
}

/**
 * Inputs `a` [D,P] and `b` [D,Q], two maps with their places in one axis. Outputs `there` [P], the place in b most like each of a's,
 * its cosine `similarity` [P], and `back` [Q], the place in a most like each of b's: a match is mutual where back[there[p]] = p.
 */
export function correspondenceModel(width: number): Uint8Array {
  const a = input("a", "float32", [width, "P"]);
  const b = input("b", "float32", [width, "Q"]);
  const unit = (x: Value): Value => l2normalize(x, 0);
  const cosine = MatMul(Transpose(unit(a)), unit(b)); // [P,Q]
  return toModel({
    name: "correspondence",
    inputs: [a, b],
    outputs: {
      there: ArgMax(cosine, { axis: 1, keepdims: 0 }),
      back: ArgMax(cosine, { axis: 0, keepdims: 0 }),
      similarity: ReduceMax(cosine, { axes: [1], keepdims: 0 }),
    },
  });
}
