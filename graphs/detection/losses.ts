/** The losses of FCOS, each a sum over the locations that count, over the number of those that answer for an object: torchvision's. */
import { constant, type Value } from "../../src/onnx/graph.js";
import {
  Add,
  Cast,
  Div,
  Equal,
  GreaterOrEqual,
  Max,
  Min,
  Mul,
  ReduceSum,
  Relu,
  Sigmoid,
  Softplus,
  Split,
  Sqrt,
  Sub,
  Unsqueeze,
  Where,
} from "../../src/ops/index.js";
import type { Predictions } from "./head.js";
import { boxesOf, distancesOf, type Locations } from "./locations.js";
import type { Targets } from "./targets.js";

/** −t·log σ(x) − (1 − t)·log(1 − σ(x)) */
const binaryCrossEntropy = (x: Value, t: Value): Value => Sub(Softplus(x), Mul(x, t));

/**
 * Focal loss (Lin et al., ICCV 2017, arXiv 1708.02002) of logits x and targets t of 0 or 1, element by element:
 *   α_t·(1 − p_t)^γ·BCE(x, t), p_t the probability of what is true, α_t = 0.25 for 1 and 0.75 for 0, γ = 2
 */
export function focalLoss(x: Value, t: Value): Value {
  const p = Sigmoid(x);
  const wrong = Add(p, Mul(t, Sub(1, Mul(p, 2)))); // 1 − p_t
  const alpha = Sub(0.75, Mul(t, 0.5));
  return Mul(Mul(alpha, Mul(wrong, wrong)), binaryCrossEntropy(x, t));
}

/**
 * 1 − GIoU (Rezatofighi et al., CVPR 2019, arXiv 1902.09630) of boxes [...,4] as corners → [...,1]:
 *   GIoU = I/(U + ε) − (E − U)/(E + ε), E the area of the smallest box around both
 */
export function giouLoss(a: Value, b: Value): Value {
  const corners = (v: Value) => Split(v, [1, 1, 1, 1], { axis: -1 }) as [Value, Value, Value, Value];
  const [ax1, ay1, ax2, ay2] = corners(a);
  const [bx1, by1, bx2, by2] = corners(b);
  const epsilon = 1e-7;
  const both = Mul(Relu(Sub(Min(ax2, bx2), Max(ax1, bx1))), Relu(Sub(Min(ay2, by2), Max(ay1, by1))));
  const either = Sub(Add(Mul(Sub(ax2, ax1), Sub(ay2, ay1)), Mul(Sub(bx2, bx1), Sub(by2, by1))), both);
  const around = Mul(Sub(Max(ax2, bx2), Min(ax1, bx1)), Sub(Max(ay2, by2), Min(ay1, by1)));
  const giou = Sub(Div(both, Add(either, epsilon)), Div(Sub(around, either), Add(around, epsilon)));
  return Sub(1, giou);
}

/** √(min(l,r)/max(l,r) · min(t,b)/max(t,b)) of distances [B,A,4] → [B,A,1]: 1 in a box's middle, 0 at its border */
function centernessOf(distances: Value): Value {
  const [left, up, right, down] = Split(distances, [1, 1, 1, 1], { axis: 2 }) as [Value, Value, Value, Value];
  const ratio = (u: Value, v: Value): Value => Div(Min(u, v), Max(u, v));
  return Sqrt(Mul(ratio(left, right), ratio(up, down)));
}

export type FcosLosses = Record<"classification" | "regression" | "centerness", Value>;

/** The three losses of a batch, whose sum is trained on. */
export function fcosLosses(predicted: Predictions, targets: Targets, locations: Locations): FcosLosses {
  const labels = Unsqueeze(targets.labels, [2]); // [B,A,1]
  const positive = GreaterOrEqual(labels, constant([], 0, "int64"));
  const counted = Cast(positive, "float32");
  const mean = (v: Value): Value => Div(ReduceSum(v, { keepdims: 0 }), Max(ReduceSum(counted, { keepdims: 0 }), 1));

  const classes = predicted.logits.shape[2] as number;
  const every = constant(
    [1, 1, classes],
    Array.from({ length: classes }, (_, c) => c),
    "int64",
  );
  const truth = Cast(Equal(labels, every), "float32"); // [B,A,C]
  const overlap = giouLoss(boxesOf(predicted.distances, locations), targets.boxes);
  // background lies outside the boxes it is paired with
  const centred = centernessOf(Where(positive, distancesOf(targets.boxes, locations), 1));
  return {
    classification: mean(focalLoss(predicted.logits, truth)),
    regression: mean(Mul(overlap, counted)),
    centerness: mean(Mul(binaryCrossEntropy(predicted.centerness, centred), counted)),
  };
}
