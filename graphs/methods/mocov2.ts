/**
 * MoCo-v2. Improved Baselines with Momentum Contrastive Learning (Chen et al., 2020, arXiv 2003.04297; MoCo: arXiv 1911.05722)
 *
 *   θ_k ← m·θ_k + (1 − m)·θ_q, then q = ^g_q(f_q(x_q)) and k = ^g_k(f_k(x_k)), keys without gradient
 *   L = mean −log( exp(q·k/τ) / (exp(q·k/τ) + Σ_{n in queue} exp(q·n/τ)) )                                  (eq. 1)
 *   the keys enter the queue after the loss; the key batch is shuffled before BatchNorm and un-shuffled after (shuffle-BN)
 */
import { constant, type Value } from "../../src/onnx/graph.js";
import {
  ArgMax,
  Cast,
  Concat,
  Equal,
  Gather,
  Gemm,
  Mul,
  ReduceMean,
  ReduceSum,
  Slice,
  SoftmaxCrossEntropyLoss,
  Squeeze,
} from "../../src/ops/index.js";
import type { Random } from "../../src/random.js";
import { zeros, type Tensors } from "../../src/tensor.js";
import { imagenetStatistics, type ViewSpec } from "../../src/views.js";
import { l2normalize, projector } from "../layers.js";
import type { Scope } from "../scope.js";
import type { DrawSpec, Method } from "./index.js";

export interface MocoOptions {
  /** K: 65536 for ImageNet; a multiple of the batch. */
  queueSize: number;
  /** τ */
  temperature: number;
  /** m of the key encoder: 0.999 for long runs, 0.99 for short ones. */
  momentum: number;
  hiddenDim: number;
  outDim: number;
  /** Groups of the key batch for BatchNorm, as the paper's 8 devices make; 1: no shuffle, the query sees its key through BN. */
  bnGroups: number;
  view?: Partial<ViewSpec>;
}

/** MoCo-v2's view, which DenseCL shares. */
export const mocoView = (size: number, view?: Partial<ViewSpec>): ViewSpec => ({
  name: "views",
  count: 2,
  size,
  crop: { scale: [0.2, 1] },
  flip: 0.5,
  jitter: { p: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 },
  grey: 0.2,
  blur: { p: 0.5, sigma: [0.1, 2] },
  normalize: imagenetStatistics,
  ...view,
});

/** Shuffle-BN's inputs: where each key row comes from, and the way back. */
export const shuffleSpecs = (bnGroups: number, b: number): DrawSpec[] =>
  bnGroups > 1 ? ["shuffle", "unshuffle"].map((name) => ({ name, dtype: "int64", shape: [b] })) : [];
export function shuffleDraw(random: Random, bnGroups: number, b: number): Tensors {
  if (bnGroups <= 1) return {};
  const [shuffle, unshuffle] = [zeros("int64", [b]), zeros("int64", [b])];
  random.permutation(b).forEach((from, to) => {
    shuffle.data[to] = BigInt(from);
    unshuffle.data[from] = BigInt(to);
  });
  return { shuffle, unshuffle };
}

/** `run` on a shuffled batch with BatchNorm over groups, its results put back in order. */
export function shuffled(
  s: Scope,
  x: Value,
  inputs: Record<string, Value>,
  bnGroups: number,
  run: (s: Scope, x: Value) => Value[],
): Value[] {
  if (bnGroups <= 1) return run(s, x);
  return run(s.with({ bnGroups }), Gather(x, inputs.shuffle!)).map((y) => Gather(y, inputs.unshuffle!));
}

/** The two views [2,B,3,S,S] as query and key images. */
export const queryAndKey = (views: Value): [Value, Value] => {
  const nth = (i: number) => Squeeze(Slice(views, { starts: [i], ends: [i + 1], axes: [0] }), [0]);
  return [nth(0), nth(1)];
};

/** [q·k, q·queue]/τ with the positive at column 0: q, k [N,D], queue [K,D] → [N,1+K] */
export function logits(q: Value, k: Value, queue: Value, temperature: number): Value {
  const positive = ReduceSum(Mul(q, k), { axes: [1], keepdims: 1 });
  return Concat([Mul(positive, 1 / temperature), Gemm(q, queue, null, { transB: 1, alpha: 1 / temperature })], {
    axis: 1,
  });
}

/** InfoNCE with the positive at column 0, and how often it wins. */
export function infoNce(scores: Value): { loss: Value; top1: Value } {
  const n = scores.shape[0] as number;
  const zero = constant([n], Array<number>(n).fill(0), "int64");
  const [loss] = SoftmaxCrossEntropyLoss(scores, zero);
  const top1 = ReduceMean(Cast(Equal(ArgMax(scores, { axis: 1, keepdims: 0 }), zero), "float32"), { keepdims: 0 });
  return { loss, top1 };
}

const column = (scores: Value, start: number, end: number): Value =>
  Slice(scores, { starts: [start], ends: [end], axes: [1] });
/** Mean cosines of positives and negatives, from the logits. */
export const cosines = (scores: Value, temperature: number): Record<string, Value> => ({
  positive: Mul(ReduceMean(column(scores, 0, 1), { keepdims: 0 }), temperature),
  negative: Mul(ReduceMean(column(scores, 1, scores.shape[1] as number), { keepdims: 0 }), temperature),
});

export const mocov2: Method<MocoOptions> = {
  summary: "A query agrees with its momentum-encoded key; a queue of past keys repels",
  paper: "Chen et al., 2020, arXiv 2003.04297",
  defaults: { queueSize: 4096, temperature: 0.2, momentum: 0.999, hiddenDim: 512, outDim: 128, bnGroups: 4 },
  encoder: "student.backbone",

  views: ({ view }, size) => [mocoView(size, view)],
  scalars: ({ momentum }) => ({ momentum }),
  draws: ({ bnGroups }, b) => shuffleSpecs(bnGroups, b),
  draw: (random, { bnGroups }, b) => shuffleDraw(random, bnGroups, b),

  embed(s, network, inputs, { hiddenDim, outDim, bnGroups }) {
    const [xq, xk] = queryAndKey(inputs.views!);
    const student = s.child("student");
    const teacher = s.ema("teacher", student, s.scalar("momentum"));
    const run = (net: Scope, x: Value): Value[] => [
      l2normalize(projector(net.child("projector"), network(net.child("backbone"), x).features, hiddenDim, outDim)),
    ];
    const [q] = run(student, xq);
    const [k] = shuffled(teacher, xk, inputs, bnGroups, run);
    return { q: q!, k: k! }; // [B, D]
  },

  loss(s, { q, k }, all, { queueSize, temperature }) {
    const queue = s.ring("queue", [queueSize, q!.shape[1] as number], { name: "unitRows" });
    const scores = logits(q!, k!, queue, temperature);
    const { loss, top1 } = infoNce(scores);
    s.push("queue", all.k!);
    return { loss, metrics: { top1, ...cosines(scores, temperature) } };
  },
};
