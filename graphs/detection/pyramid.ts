/**
 * FPN (Lin et al., CVPR 2017, arXiv 1612.03144) with RetinaNet's P6 and P7 on top: torchvision's FeaturePyramidNetwork with
 * LastLevelP6P7, names and initial distributions.
 */
import type { Value } from "../../src/onnx/graph.js";
import { Add, Relu, Resize, Shape } from "../../src/ops/index.js";
import type { Init } from "../../src/step.js";
import { conv, zerosInit, type ConvOptions } from "../layers.js";
import type { Scope } from "../scope.js";

/** kaiming_uniform_ with a = 1: U(±√(3/fanIn)) */
const kaimingUniform = (fanIn: number): Init => {
  const bound = Math.sqrt(3 / fanIn);
  return { name: "uniform", low: -bound, high: bound };
};

const lateral = (
  s: Scope,
  x: Value,
  channels: number,
  kernel: number,
  window: Pick<ConvOptions, "strides"> = {},
): Value =>
  conv(s, x, channels, kernel, {
    bias: true,
    init: kaimingUniform((x.shape[1] as number) * kernel * kernel),
    biasInit: zerosInit,
    ...window,
  });

/** Each pixel repeated until x is as large as `like`. */
const enlarged = (x: Value, like: Value): Value => {
  const sizes = like.shape.every((d) => typeof d === "number") ? (like.shape as number[]) : Shape(like);
  return Resize(x, { sizes }, { mode: "nearest", coordinate_transformation_mode: "asymmetric", nearest_mode: "floor" });
};

/**
 * Maps C3, C4, C5 (strides 8, 16, 32) → P3 … P7 of `channels` (strides 8 … 128):
 *   Pₗ = conv3(Mₗ), Mₗ = conv1(Cₗ) + enlarged(Mₗ₊₁);  P6 = conv3/2(P5);  P7 = conv3/2(relu P6)
 */
export function featurePyramid(s: Scope, maps: readonly Value[], channels: number): Value[] {
  const inner = maps.map((c, i) => lateral(s.child("inner_blocks").child(i).child(0), c, channels, 1));
  const merged = inner.reduceRight<Value[]>(
    (above, m) => [above.length ? Add(m, enlarged(above[0]!, m)) : m, ...above],
    [],
  );
  const levels = merged.map((m, i) => lateral(s.child("layer_blocks").child(i).child(0), m, channels, 3));
  const extra = s.child("extra_blocks");
  const p6 = lateral(extra.child("p6"), levels.at(-1)!, channels, 3, { strides: [2, 2] });
  const p7 = lateral(extra.child("p7"), Relu(p6), channels, 3, { strides: [2, 2] });
  return [...levels, p6, p7];
}
