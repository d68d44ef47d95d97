/** How well scores put each row's own class: what top1 and top5 count. */
import { constant, input, type Value } from "../src/onnx/graph.js";
import { toModel } from "../src/onnx/model.js";
import {
  And,
  Cast,
  Equal,
  Less,
  LessOrEqual,
  Not,
  OneHot,
  Or,
  ReduceSum,
  Squeeze,
  Unsqueeze,
  Where,
} from "../src/ops/index.js";

/** Of scores [Q,K,C], those of each row's class `labels` int64 [Q]: [Q,K,1] */
export function ownScores(scores: Value, labels: Value): Value {
  const own = Cast(Unsqueeze(OneHot(labels, scores.shape[2] as number), [1]), "bool"); // [Q,1,C]
  return ReduceSum(Where(own, scores, 0), { axes: [2], keepdims: 1 });
}

/**
 * [Q,K] float32: how many classes stand before the own one, 0 where it is the best. Among equal scores the earlier class stands
 * first, as ArgMax has it; a score that is not a number stands behind all.
 */
export function places(scores: Value, labels: Value): Value {
  const classes = scores.shape[2] as number;
  const own = ownScores(scores, labels);
  const better = Not(LessOrEqual(scores, own));
  const index = constant(
    [1, 1, classes],
    Array.from({ length: classes }, (_, c) => c),
    "int64",
  );
  const earlier = And(Equal(scores, own), Less(index, Unsqueeze(labels, [1, 2])));
  return ReduceSum(Cast(Or(better, earlier), "float32"), { axes: [2], keepdims: 0 });
}

/** Inputs `scores` [Q,C], `labels` int64 [Q]. Output `places` [Q]. */
export function scoresModel(classes: number): Uint8Array {
  const scores = input("scores", "float32", ["Q", classes]);
  const labels = input("labels", "int64", ["Q"]);
  return toModel({
    name: "places",
    inputs: [scores, labels],
    outputs: { places: Squeeze(places(Unsqueeze(scores, [1]), labels), [1]) },
  });
}
