/**
 * BYOL. Bootstrap Your Own Latent (Grill et al., NeurIPS 2020, arXiv 2006.07733)
 *
 *   ξ ← m·ξ + (1 − m)·θ: the teacher, without gradient
 *   p = h(g(f_θ(v))),  z = g(f_ξ(v'))  [B,D]                                        ^ = L2-normalised rows
 *   L = mean_i ‖p̂_i − ẑ_i‖² = 2 − 2·mean_i cos(p_i, z_i)                                                    (eq. 2)
 *   symmetric: plus the same with v and v' exchanged; asymmetric: as it stands (train_byol.py of UMBCvision/ISD)
 * No image repels another: predictor and slow teacher alone keep the features from collapsing.
 */
import type { Value } from "../../src/onnx/graph.js";
import { Add, Mul, ReduceMean, ReduceSum, Squeeze, stopGradient, Sub } from "../../src/ops/index.js";
import type { Schedule } from "../../src/schedules.js";
import { imagenetStatistics, type ViewSpec } from "../../src/views.js";
import { bnProjector, l2normalize } from "../layers.js";
import type { Scope } from "../scope.js";
import type { Embeddings, Method } from "./index.js";

export interface ByolOptions {
  /** Each view is predicted from the other; false halves the cost of a step. */
  symmetric: boolean;
  /** m: 0.996 rising to 1 in the paper, 0.99 where asymmetric. */
  momentum: Schedule;
  /** 4096 in the paper */
  hiddenDim: number;
  /** 256 in the paper */
  outDim: number;
  /** Replaces parts of both views. */
  view?: Partial<ViewSpec>;
}

/** BYOL's two views, which MoCo-v3 shares: one always blurred, the other seldom, but sometimes solarized. */
export function asymmetricViews(size: number, crop: ViewSpec["crop"], view?: Partial<ViewSpec>): ViewSpec[] {
  const common = {
    count: 1,
    size,
    crop,
    flip: 0.5,
    jitter: { p: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.2, hue: 0.1 },
    grey: 0.2,
    normalize: imagenetStatistics,
  };
  const sigma = [0.1, 2] as const;
  return [
    { ...common, blur: { p: 1, sigma }, ...view, name: "view1" },
    { ...common, blur: { p: 0.1, sigma }, solarize: { p: 0.2 }, ...view, name: "view2" },
  ];
}

/** The images [B,3,S,S] of both views. */
export const bothViews = ({ view1, view2 }: Record<string, Value>): [Value, Value] => [
  Squeeze(view1!, [0]),
  Squeeze(view2!, [0]),
];

/** mean_i cos(p_i, z_i), no gradient through z */
const cosine = (p: Value, z: Value): Value =>
  ReduceMean(ReduceSum(Mul(l2normalize(p), l2normalize(stopGradient(z))), { axes: [1], keepdims: 0 }), { keepdims: 0 });

export const byol: Method<ByolOptions> = {
  summary: "A predictor on one view finds the momentum teacher's embedding of the other; nothing repels",
  paper: "Grill et al., NeurIPS 2020, arXiv 2006.07733",
  defaults: {
    symmetric: true,
    momentum: { schedule: "cosine", peak: 0.996, end: 1 },
    hiddenDim: 512,
    outDim: 128,
  },
  encoder: "student.backbone",

  views: ({ view }, size) => asymmetricViews(size, { scale: [0.08, 1], interpolation: "bicubic" }, view),
  scalars: ({ momentum }) => ({ momentum }),

  embed(s, network, inputs, { symmetric, hiddenDim, outDim }): Embeddings {
    const [x1, x2] = bothViews(inputs);
    const student = s.child("student");
    const teacher = s.ema("teacher", student, s.scalar("momentum"));
    const mlp = (net: Scope, name: string, x: Value) =>
      bnProjector(net.child(name), x, hiddenDim, outDim, { bias: false });
    const project = (net: Scope, x: Value) => mlp(net, "projector", network(net.child("backbone"), x).features);
    const predict = (x: Value) => mlp(student, "predictor", project(student, x));
    if (!symmetric) return { p1: predict(x1), z2: project(teacher, x2) };
    const [p1, p2] = [predict(x1), predict(x2)];
    return { p1, p2, z1: project(teacher, x1), z2: project(teacher, x2) };
  },

  loss(_s, { p1, p2, z1, z2 }) {
    const apart = (c: Value) => Sub(2, Mul(c, 2));
    const one = cosine(p1!, z2!);
    if (!p2) return { loss: apart(one), metrics: { positive: one } };
    const two = cosine(p2, z1!);
    return { loss: Add(apart(one), apart(two)), metrics: { positive: Mul(Add(one, two), 0.5) } };
  },
};
