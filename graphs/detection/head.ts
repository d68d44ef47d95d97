/** The head of FCOS (Tian et al., ICCV 2019, arXiv 1904.01355; TPAMI 2020, arXiv 2006.09214), shared by all levels: torchvision's FCOSHead. */
import type { Value } from "../../src/onnx/graph.js";
import { Concat, Relu, Reshape, Transpose } from "../../src/ops/index.js";
import type { Init } from "../../src/step.js";
import { conv, groupNorm } from "../layers.js";
import type { Scope } from "../scope.js";

/** What the head says at each of A locations, level after level, row after row. */
export interface Predictions {
  /** [B,A,C] */
  logits: Value;
  /** [B,A,4] to the left, upper, right and lower side, at least 0, in strides of the level */
  distances: Value;
  /** [B,A,1] logit */
  centerness: Value;
}

/** Share of locations that a class is given before anything is learned (RetinaNet, arXiv 1708.02002). */
const prior = 0.01;
const smallNormal: Init = { name: "normal", std: 0.01 };

const convolved = (s: Scope, x: Value, channels: number, bias = 0): Value =>
  conv(s, x, channels, 3, { bias: true, init: smallNormal, biasInit: { name: "constant", value: bias } });

/** conv–GroupNorm–ReLU in turn, numbered as torch.nn.Sequential numbers them */
function tower(s: Scope, x: Value, convs: number): Value {
  const channels = x.shape[1] as number;
  return Array.from({ length: convs }).reduce<Value>(
    (v, _, i) => Relu(groupNorm(s.child(3 * i + 1), convolved(s.child(3 * i), v, channels))),
    x,
  );
}

/** [B,K,h,w] → [B,h·w,K] */
const rows = (x: Value): Value => Reshape(Transpose(x, { perm: [0, 2, 3, 1] }), [0, -1, x.shape[1] as number]);

/** The pyramid's maps [B,channels,h,w] → predictions at all their locations. */
export function fcosHead(s: Scope, pyramid: readonly Value[], classes: number, convs: number): Predictions {
  const [classification, regression] = [s.child("classification_head"), s.child("regression_head")];
  const joined = (predict: (p: Value) => Value): Value => Concat(pyramid.map(predict).map(rows), { axis: 1 });
  const logits = joined((p) =>
    convolved(
      classification.child("cls_logits"),
      tower(classification.child("conv"), p, convs),
      classes,
      -Math.log((1 - prior) / prior),
    ),
  );
  const boxTowers = new Map(pyramid.map((p) => [p, tower(regression.child("conv"), p, convs)]));
  return {
    logits,
    distances: joined((p) => Relu(convolved(regression.child("bbox_reg"), boxTowers.get(p)!, 4))),
    centerness: joined((p) => convolved(regression.child("bbox_ctrness"), boxTowers.get(p)!, 1)),
  };
}
