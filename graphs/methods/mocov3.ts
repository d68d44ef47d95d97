/**
 * MoCo-v3. An Empirical Study of Training Self-Supervised Vision Transformers (Chen et al., ICCV 2021, arXiv 2104.02057)
 *
 *   θ_k ← m·θ_k + (1 − m)·θ_q, then q_v = h(g(f_q(x_v))) and k_v = g(f_k(x_v)) for both views, keys without gradient
 *   ctr(q, k) = 2τ·mean_i −log( exp(q̂_i·k̂_i/τ) / Σ_j exp(q̂_i·k̂_j/τ) )           ^ = L2-normalised rows  (eq. 1, Algorithm 1)
 *   L = ctr(q1, k2) + ctr(q2, k1)
 * The batch is the set of negatives: no queue, so it should be large. facebookresearch/moco-v3 moco/builder.py
 */
import { constant, type Value } from "../../src/onnx/graph.js";
import {
  Add,
  ArgMax,
  Cast,
  Equal,
  Gemm,
  Mul,
  ReduceMean,
  ReduceSum,
  Slice,
  SoftmaxCrossEntropyLoss,
  stopGradient,
} from "../../src/ops/index.js";
import type { Schedule } from "../../src/schedules.js";
import type { ViewSpec } from "../../src/views.js";
import { l2normalize, mlp } from "../layers.js";
import type { Scope } from "../scope.js";
import { asymmetricViews, bothViews } from "./byol.js";
import type { Method } from "./index.js";

export interface Mocov3Options {
  /** τ: 0.2 for ViTs, 1 for ResNet-50 */
  temperature: number;
  /** m: 0.99 rising to 1; 0.996 for 1000 epochs of ResNet-50 */
  momentum: Schedule;
  /** 4096 in the paper */
  hiddenDim: number;
  /** 256 in the paper */
  outDim: number;
  /** 3 for ViTs, 2 for ResNet-50 */
  projectorLayers: number;
  /** BatchNorm at the end of the predictor: for ViTs, not for ResNet-50 */
  predictorNorm: boolean;
  /** Replaces parts of both views. */
  view?: Partial<ViewSpec>;
}

/** (Linear–BN–ReLU) layers − 1 times, then Linear, and BN without γ and β if `lastNorm`; no biases. _build_mlp */
export function head(s: Scope, x: Value, layers: number, hiddenDim: number, outDim: number, lastNorm: boolean): Value {
  const hidden = { width: hiddenDim, bias: false, norm: "bn", relu: true } as const;
  const last = { width: outDim, bias: false, ...(lastNorm && { norm: "bnPlain" as const }) };
  return mlp(s, x, [...Array<typeof hidden>(layers - 1).fill(hidden), last]);
}

/**
 * InfoNCE of q [N,D] with candidates k [M,D], no gradient through k. Row i's positive is row offset + i (offset: this device's first
 * row among the gathered ones). similarity: mean cosine of the positives; top1: how often the positive wins.
 */
export function inBatch(
  q: Value,
  k: Value,
  temperature: number,
  offset = 0,
): { loss: Value; similarity: Value; top1: Value } {
  const n = q.shape[0] as number;
  const [queries, keys] = [l2normalize(q), l2normalize(stopGradient(k))];
  const scores = Gemm(queries, keys, null, { transB: 1, alpha: 1 / temperature });
  const labels = constant(
    [n],
    Array.from({ length: n }, (_, i) => offset + i),
    "int64",
  );
  const [loss] = SoftmaxCrossEntropyLoss(scores, labels);
  const positives = Slice(keys, { starts: [offset], ends: [offset + n], axes: [0] });
  const mean = (x: Value) => ReduceMean(x, { keepdims: 0 });
  return {
    loss,
    similarity: mean(ReduceSum(Mul(queries, positives), { axes: [1], keepdims: 0 })),
    top1: mean(Cast(Equal(ArgMax(scores, { axis: 1, keepdims: 0 }), labels), "float32")),
  };
}

export const mocov3: Method<Mocov3Options> = {
  summary: "Two views agree through a predictor and a momentum encoder; the other images of the batch repel",
  paper: "Chen et al., ICCV 2021, arXiv 2104.02057",
  defaults: {
    temperature: 0.2,
    momentum: { schedule: "cosine", peak: 0.99, end: 1 },
    hiddenDim: 512,
    outDim: 128,
    projectorLayers: 3,
    predictorNorm: true,
  },
  encoder: "student.backbone",

  views: ({ view }, size) => asymmetricViews(size, { scale: [0.08, 1] }, view),
  scalars: ({ momentum }) => ({ momentum }),

  embed(s, network, inputs, { projectorLayers, predictorNorm, hiddenDim, outDim }) {
    const images = bothViews(inputs);
    const student = s.child("student");
    const teacher = s.ema("teacher", student, s.scalar("momentum"));
    const project = (net: Scope, x: Value) =>
      head(
        net.child("projector"),
        network(net.child("backbone"), x).features,
        projectorLayers,
        hiddenDim,
        outDim,
        true,
      );
    const [q1, q2] = images.map((x) =>
      head(student.child("predictor"), project(student, x), 2, hiddenDim, outDim, predictorNorm),
    );
    const [k1, k2] = images.map((x) => project(teacher, x));
    return { q1: q1!, q2: q2!, k1: k1!, k2: k2! }; // [B, D]
  },

  loss(_s, { q1, q2 }, { k1, k2 }, { temperature }) {
    const [one, two] = [inBatch(q1!, k2!, temperature), inBatch(q2!, k1!, temperature)];
    const mean = (a: Value, b: Value) => Mul(Add(a, b), 0.5);
    return {
      loss: Mul(Add(one.loss, two.loss), 2 * temperature),
      metrics: { positive: mean(one.similarity, two.similarity), top1: mean(one.top1, two.top1) },
    };
  },
};
