/**
 * MoCo-v2. Improved Baselines with Momentum Contrastive Learning (Chen et al., 2020, arXiv 2003.04297; MoCo: arXiv 1911.05722)
 *
 *   θ_k ← m·θ_k + (1 − m)·θ_q, then q = ^g_q(f_q(x_q)) and k = ^g_k(f_k(x_k)), keys without gradient
 *   L = mean −log( exp(q·k/τ) / (exp(q·k/τ) + Σ_{n in queue} exp(q·n/τ)) )                                  (eq. 1)
 *   the keys enter the queue after the loss; the key batch is shuffled before BatchNorm and un-shuffled after (shuffle-BN)
 */
import type { Value } from "../../src/onnx/graph.js";
import {
  Add,
  Cast,
  Concat,
  Div,
  Exp,
  Gather,
  Gemm,
  GreaterOrEqual,
  Log,
  Max,
  Mul,
  ReduceMax,
  ReduceMean,
  ReduceSum,
  Slice,
  Split,
  Squeeze,
  Sub,
} from "../../src/ops/index.js";
import { withRule } from "../../src/ops/op.js";
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

/** The two views [2,B,C,S,S] as query and key images. */
export const queryAndKey = (views: Value): [Value, Value] => {
  const nth = (i: number) => Squeeze(Slice(views, { starts: [i], ends: [i + 1], axes: [0] }), [0]);
  return [nth(0), nth(1)];
};

/** Most logits [rows, K] held at once: 64 MB of float32. */
const heldLogits = 2 ** 24;

/** A loss, how often the key wins, and the mean cosines with keys and with the queue: float32 [] each. */
export interface Contrast {
  loss: Value;
  top1: Value;
  positive: Value;
  negative: Value;
}

/**
 * InfoNCE of unit rows q [N,D] with their keys k [N,D] and a queue [K,D], at most `held` logits at a time and none of them kept for the
 * reverse pass: with p = softmax([q·k, q·queue]/τ), ∂L/∂q = ((p₀ − 1)·k + p₁…·queue)/(τN) and ∂L/∂k = (p₀ − 1)·q/(τN) are computed beside the
 * loss; the queue has no gradient. In parts, as the runtime's SoftmaxCrossEntropyLoss runs on one thread: 91 ms for [196, 65537] on two
 * cores against 8 ms for a LogSoftmax.
 */
export function infoNce(q: Value, k: Value, queue: Value, temperature: number, held = heldLogits): Contrast {
  const n = q.shape[0] as number;
  const most = Math.max(1, Math.floor(held / (queue.shape[0] as number)));
  const lengths = Array.from({ length: Math.ceil(n / most) }, (_, i) => Math.min(most, n - i * most));
  const blocks = (x: Value) => (lengths.length > 1 ? Split(x, lengths, { axis: 0 }) : [x]);
  const [queries, keys] = [blocks(q), blocks(k)];
  const parts: Contrasted[] = [];
  for (const [i, query] of queries.entries()) {
    const before = parts.at(-1)?.dq;
    // + 0·(the block before): else the runtime computes the logits of all blocks first
    const inTurn = before ? Add(query, Mul(Slice(before, { starts: [0], ends: [1], axes: [0] }), 0)) : query;
    parts.push(contrasted(inTurn, keys[i]!, queue, temperature));
  }
  const rows = (name: keyof Contrasted) =>
    parts.length > 1
      ? Concat(
          parts.map((p) => p[name]),
          { axis: 0 },
        )
      : parts[0]![name];
  const mean = (name: keyof Contrasted) => ReduceMean(rows(name), { keepdims: 0 });
  return {
    loss: withRule(mean("loss"), [q, k], (g) => {
      const scale = Mul(g, 1 / (temperature * n));
      return [Mul(rows("dq"), scale), Mul(rows("dk"), scale)];
    }),
    top1: mean("top1"),
    positive: Mul(mean("positive"), temperature),
    negative: Mul(mean("negative"), temperature),
  };
}

/** What one block of m rows gives: dq and dk [m,D], the others [m,1]. */
type Contrasted = Record<keyof Contrast | "dq" | "dk", Value>;

function contrasted(q: Value, k: Value, queue: Value, temperature: number): Contrasted {
  const perRow = { axes: [1] };
  const positive = Mul(ReduceSum(Mul(q, k), perRow), 1 / temperature); // [m,1]
  const negatives = Gemm(q, queue, null, { transB: 1, alpha: 1 / temperature }); // [m,K]
  const hardest = ReduceMax(negatives, perRow);
  const top = Max(hardest, positive);
  const [won, lost] = [Exp(Sub(positive, top)), Exp(Sub(negatives, top))];
  const sum = Add(won, ReduceSum(lost, perRow));
  const pull = Sub(Div(won, sum), 1); // p₀ − 1
  return {
    loss: Sub(Add(Log(sum), top), positive),
    top1: Cast(GreaterOrEqual(positive, hardest), "float32"),
    positive,
    negative: ReduceMean(negatives, perRow),
    dq: Add(Mul(pull, k), Div(Gemm(lost, queue), sum)),
    dk: Mul(pull, q),
  };
}

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
    const { loss, ...metrics } = infoNce(q!, k!, queue, temperature);
    s.push("queue", all.k!);
    return { loss, metrics };
  },
};
