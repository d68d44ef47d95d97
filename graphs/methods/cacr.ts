/**
 * CACR. Contrastive Attraction and Contrastive Repulsion for Representation Learning (Zheng et al., TMLR 2023, arXiv 2105.03746)
 *
 *   query z, K positives z⁺_k of the same image, M negatives z⁻_m; all of unit length; cost c(z, z') = ‖z − z'‖² = 2 − 2·z·z'
 *   π⁺_k = softmax_k( t⁺·c(z, z⁺_k))     a farther positive is pulled harder
 *   π⁻_m = softmax_m(−t⁻·c(z, z⁻_m))     a closer negative is pushed harder
 *   L = α·Σ_k π⁺_k·c(z, z⁺_k) − β·Σ_m π⁻_m·c(z, z⁻_m)                                               (attraction, repulsion)
 * Each of the V views of an image is a query once. Three forms, of JegZheng/CACR-SSL:
 *   batch    small_scale_experiments: V = K + 1, negatives from the other view of each pair u < v; gradient through both softmaxes
 *   queue    large_scale_shift_experiments: positives are momentum keys, negatives a queue and the batch; MoCo-v2's machinery
 *   mocov3   imagenet_pretraining: two global views and local crops against momentum keys, t⁺ = t⁻ = 1/T; MoCo-v3's machinery
 */
import type { Value } from "../../src/onnx/graph.js";
import {
  Add,
  Concat,
  Exp,
  Expand,
  Gemm,
  Log,
  MatMul,
  Mul,
  ReduceLogSumExp,
  ReduceMean,
  ReduceSum,
  ReduceSumSquare,
  Reshape,
  Slice,
  Softmax,
  Split,
  Squeeze,
  stopGradient,
  Sub,
  Transpose,
  transposed,
  Unsqueeze,
} from "../../src/ops/index.js";
import { keysOf, oneOf } from "../../src/names.js";
import type { Schedule } from "../../src/schedules.js";
import type { ViewSpec } from "../../src/views.js";
import { l2normalize, mlp } from "../layers.js";
import type { Scope } from "../scope.js";
import { diagonal, pairsOf } from "./bagssl.js";
import { asymmetricViews } from "./byol.js";
import { mocoView, shuffled, shuffleDraw, shuffleSpecs } from "./mocov2.js";
import { head } from "./mocov3.js";
import type { Embeddings, Method, Network } from "./index.js";

export type CacrForm = "batch" | "queue" | "mocov3";
export interface CacrOptions {
  form: CacrForm;
  /** batch, queue: K; each image gives K + 1 views. 4 in the paper. */
  positives: number;
  /** α, β: 1 */
  alpha: number;
  beta: number;
  /** t⁺, an inverse temperature: 1. Larger follows the farthest positive, which may be a wrong crop. */
  tPos: number;
  /** t⁻, an inverse temperature: 0.9 for CIFAR-10, 2 elsewhere. The one knob that the authors tune. */
  tNeg: number;
  /** batch, mocov3: what repels: the squared distance itself, or a Gaussian of it. */
  cost: "euclidean" | "rbf";
  /** batch: t of the Gaussian e^(−t·c). */
  rbfT: number;
  /** batch, ablations: without them π⁺ or π⁻ is uniform. */
  weighPositives: boolean;
  weighNegatives: boolean;
  /** batch: takes the share tauPlus of false negatives out of the repulsion. */
  debiased: boolean;
  tauPlus: number;
  /** queue: K of the queue; a multiple of the batch. */
  queueSize: number;
  /** queue, mocov3: m of the key encoder: 0.999; with mocov3 0.99 or 0.996 rising to 1. */
  momentum: Schedule;
  /** queue: groups of the key batch for BatchNorm; 1: no shuffle. */
  bnGroups: number;
  /** queue: other images of the batch are negatives too. */
  intraBatch: boolean;
  /** queue, as released: every view's costs to the queue are those of view 0, by a cache that is never renewed. */
  cachedQueueCosts: boolean;
  /** mocov3: T. 1 for ResNet-50, 0.2 for ViT. */
  temperature: number;
  /** mocov3: local crops of each image; without them rbf has one positive and is half of MoCo-v3's loss. 8 in the paper. */
  localCrops: number;
  /** Pixels a side of a local crop; 96. */
  localSize: number;
  /** mocov3: local crops give keys as well (full mode). */
  localKeys: boolean;
  /** mocov3 with the euclidean cost, as released: a sum over the batch, not a mean. */
  batchSum: boolean;
  /** mocov3 with the euclidean cost, as released: 1 − cos, half the squared distance. */
  halfCost: boolean;
  /** mocov3: 3 for ViT, 2 for ResNet-50. */
  projectorLayers: number;
  /** mocov3: BatchNorm at the end of the predictor: for ViT, not for ResNet-50. */
  predictorNorm: boolean;
  /** Hidden width of the heads; 0: in batch and queue a single linear layer. */
  hiddenDim: number;
  outDim: number;
  view?: Partial<ViewSpec>;
}

const mean = (x: Value): Value => ReduceMean(x, { keepdims: 0 });
/** ‖a_i − b_j‖² of rows a […,N,D] and b […,M,D] → […,N,M] */
function squaredDistances(a: Value, b: Value): Value {
  const square = (x: Value) => ReduceSumSquare(x, { axes: [x.shape.length - 1] });
  return Sub(Add(square(a), transposed(square(b))), Mul(MatMul(a, transposed(b)), 2));
}
/** Softmax over the last axis without the diagonal, whose weights are 0. */
function weights(scores: Value): Value {
  const [rows, columns] = scores.shape.slice(-2) as [number, number];
  return Softmax(Add(scores, diagonal(rows, -1e9, 0, columns)));
}
/** Equal weights of the other n − 1. */
const uniform = (n: number): Value => diagonal(n, 0, 1 / (n - 1));
/** Mean over all rows of Σ w·c */
const transported = (w: Value, c: Value): Value => mean(ReduceSum(Mul(w, c), { axes: [-1], keepdims: 0 }));
/** z [V,N,D] → [N,V,D] */
const byImage = (z: Value): Value => Transpose(z, { perm: [1, 0, 2] });

function checkedViews(z: Value, views: number, asked: string): void {
  if (z.shape[0] !== views)
    throw new Error(
      `CACR: ${asked} need ${views} views of each image, got ${z.shape[0]}. Give as many, or ask for fewer.`,
    );
}

// ---------------------------------------------------------------- batch

/** L of unit vectors z [V,N,D]; `positive` [N,V,V] and `negative` [P,N,N] are the weights π⁺ and π⁻. */
export function batchLoss(z: Value, o: CacrOptions) {
  const images = byImage(z);
  const c = squaredDistances(images, images); // [N, V, V]
  const positive = weights(Mul(c, o.tPos));
  const attraction = Mul(transported(o.weighPositives ? positive : uniform(c.shape[1] as number), c), o.alpha);

  const [left, right] = pairsOf(z);
  const e = squaredDistances(left, right); // [P, N, N], the diagonal is one image's
  const negative = weights(Mul(e, -o.tNeg));
  const used = o.weighNegatives ? negative : uniform(e.shape[1] as number);
  const repulsion = oneOf("cost of cacr", o.cost, repulsions)(e, used, o);
  return { loss: Add(attraction, repulsion), metrics: { attraction, repulsion }, positive, negative };
}

const repulsions: Record<CacrOptions["cost"], (e: Value, negative: Value, o: CacrOptions) => Value> = {
  /** −β·mean Σ π⁻·e; debiased: (−τ₊·c(z_u, z_v) − β·Σ π⁻·e)/(1 − τ₊) */
  euclidean(e, negative, { beta, debiased, weighNegatives, tauPlus }) {
    const pushed = Mul(transported(negative, e), -beta);
    if (!debiased || !weighNegatives) return pushed;
    const n = e.shape[1] as number;
    const own = mean(ReduceSum(Mul(e, diagonal(n, 1, 0)), { axes: [2], keepdims: 0 }));
    return Mul(Sub(pushed, Mul(own, tauPlus)), 1 / (1 - tauPlus));
  },
  /** β·mean over pairs of log mean_n Σ π⁻·e^(−t·e) */
  rbf(e, negative, { beta, rbfT }) {
    const near = ReduceSum(Mul(negative, Exp(Mul(e, -rbfT))), { axes: [2], keepdims: 0 }); // [P, N]
    return Mul(mean(Log(ReduceMean(near, { axes: [1], keepdims: 0 }))), beta);
  },
};

// ---------------------------------------------------------------- queue

/** L of unit queries q and keys k [V,N,D] and a queue [K,D]. Weights have no gradient but through the costs within the batch. */
export function queueLoss(q: Value, k: Value, queue: Value, o: CacrOptions) {
  const [v, n, d] = q.shape as [number, number, number];
  const c = squaredDistances(byImage(q), byImage(k)); // [N, V, V]
  const attraction = Mul(transported(stopGradient(weights(Mul(c, o.tPos))), c), o.alpha);

  const rows = o.cachedQueueCosts ? Slice(q, { starts: [0], ends: [1], axes: [0] }) : q;
  const toQueue = Add(Gemm(Reshape(rows, [-1, d]), queue, null, { transB: 1, alpha: -2 }), 2);
  const far = Expand(Reshape(toQueue, [rows.shape[0] as number, n, -1]), [v, n, queue.shape[0] as number]); // [V, N, K]
  const near = squaredDistances(q, q); // [V, N, N]
  const all = (a: Value, b: Value) => (o.intraBatch ? Concat([a, b], { axis: 2 }) : a);
  const negative = Softmax(Mul(all(stopGradient(far), Add(near, diagonal(n, 1e9, 0))), -o.tNeg));
  const repulsion = Mul(transported(negative, all(far, near)), -o.beta);
  return { loss: Add(attraction, repulsion), metrics: { attraction, repulsion } };
}

// ---------------------------------------------------------------- mocov3

/** L of unit queries q [V,N,D] and keys k [M,N,D], M = 2 or V: key i is compared with all views but i. */
export function mocov3Loss(q: Value, k: Value, o: CacrOptions) {
  const [v, n, d] = q.shape as [number, number, number];
  const m = k.shape[0] as number;
  const [queries, keys] = [byImage(q), byImage(k)];
  const own = MatMul(keys, transposed(queries)); // cos of the positives [N, M, V]
  const positive = stopGradient(weights(Mul(squaredDistances(keys, queries), 1 / o.temperature))); // [N, M, V]
  const flat = (x: Value) => Reshape(x, [-1, d]);
  const cosines = Reshape(Gemm(flat(k), flat(q), null, { transB: 1 }), [m, n, v, n]);
  const all = Transpose(cosines, { perm: [3, 0, 2, 1] }); // query's image first, key's last [N, M, V, N]
  const term = oneOf("cost of cacr", o.cost, terms)(own, all, o); // [N, M, V]
  const perKey = ReduceSum(Mul(positive, term), { axes: [0, 2], keepdims: 0 }); // [M]
  return { loss: mean(perKey), metrics: {}, positive, perKey };
}

const terms: Record<CacrOptions["cost"], (own: Value, all: Value, o: CacrOptions) => Value> = {
  /** 2T·CE/N: minus the log share of the own key among all keys */
  rbf(own, all, { temperature }) {
    const n = own.shape[0] as number;
    const total = ReduceLogSumExp(Mul(all, 1 / temperature), { axes: [3], keepdims: 0 });
    return Mul(Sub(total, Mul(own, 1 / temperature)), (2 * temperature) / n);
  },
  /** c⁺ − Σ π⁻·c⁻ over the other images' keys */
  euclidean(own, all, { temperature, halfCost, batchSum }) {
    const n = own.shape[0] as number;
    const cost = (cosine: Value) => Mul(Sub(1, cosine), halfCost ? 1 : 2);
    const others = Add(cost(all), Reshape(diagonal(n, 1e9, 0), [n, 1, 1, n]));
    const negative = stopGradient(Softmax(Mul(others, -1 / temperature)));
    const pushed = ReduceSum(Mul(negative, cost(all)), { axes: [3], keepdims: 0 });
    return Mul(Sub(cost(own), pushed), batchSum ? 1 : 1 / n);
  },
};

// ---------------------------------------------------------------- networks

/** Each view of [V,B,…] in a forward pass of its own, results stacked to [V,B,D]. */
function viewByView(views: Value, run: (images: Value) => Value): Value {
  const each = Split(views, Array<number>(views.shape[0] as number).fill(1), { axis: 0 });
  return Concat(
    each.map((x) => Unsqueeze(run(Squeeze(x, [0])), [0])),
    { axis: 0 },
  );
}

/** Linear, or Linear–ReLU–Linear */
const projected = (s: Scope, x: Value, { hiddenDim, outDim }: CacrOptions): Value =>
  mlp(s.child("projector"), x, [...(hiddenDim ? [{ width: hiddenDim, relu: true }] : []), { width: outDim }]);

interface Form {
  views(o: CacrOptions, size: number): ViewSpec[];
  embed(s: Scope, network: Network, inputs: Record<string, Value>, o: CacrOptions): Embeddings;
  loss(s: Scope, own: Embeddings, all: Embeddings, o: CacrOptions): { loss: Value; metrics: Record<string, Value> };
}

const viewCount = ({ positives }: CacrOptions): number => {
  if (!(Number.isInteger(positives) && positives >= 1))
    throw new Error(`CACR: expected a whole number of at least 1 for positives but received ${positives}.`);
  return positives + 1;
};
const features = (network: Network, s: Scope, x: Value): Value => network(s.child("backbone"), x).features;

const forms: Record<CacrForm, Form> = {
  batch: {
    views: (o, size) => [
      {
        ...mocoView(size),
        count: viewCount(o),
        jitter: { p: 1, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.4 },
        blur: undefined,
        ...o.view,
      },
    ],
    embed(s, network, { views }, o) {
      const student = s.child("student");
      return { z: viewByView(views!, (x) => projected(student, features(network, student, x), o)) };
    },
    loss(_s, { z }, _all, o) {
      checkedViews(z!, viewCount(o), `${o.positives} positives`);
      return batchLoss(l2normalize(z!), o);
    },
  },
  queue: {
    views(o, size) {
      if (o.cost !== "euclidean")
        throw new Error(`CACR: the queue form has the euclidean cost only but received cost ${o.cost}.`);
      return [{ ...mocoView(size, o.view), count: viewCount(o) }];
    },
    embed(s, network, inputs, o) {
      const student = s.child("student");
      const teacher = s.ema("teacher", student, s.scalar("momentum"));
      const run = (net: Scope, x: Value) => projected(net, features(network, net, x), o);
      return {
        q: viewByView(inputs.views!, (x) => run(student, x)),
        k: viewByView(inputs.views!, (x) => shuffled(teacher, x, inputs, o.bnGroups, (net, y) => [run(net, y)])[0]!),
      };
    },
    loss(s, { q, k }, all, o) {
      checkedViews(q!, viewCount(o), `${o.positives} positives`);
      const [v, , d] = q!.shape as [number, number, number];
      const queue = s.ring("queue", [o.queueSize, d], { name: "unitRows" });
      const last = Slice(all.k!, { starts: [v - 1], ends: [v], axes: [0] });
      s.push("queue", l2normalize(Squeeze(last, [0]))); // only the last view's keys
      return queueLoss(l2normalize(q!), stopGradient(l2normalize(k!)), queue, o);
    },
  },
  mocov3: {
    views({ localCrops, localSize, hiddenDim, view }, size) {
      if (!hiddenDim) throw new Error("CACR: the heads of the mocov3 form need a hiddenDim above 0.");
      const global = asymmetricViews(size, { scale: [0.2, 1] }, view);
      const local: ViewSpec = {
        ...global[0]!,
        name: "local",
        count: localCrops,
        size: localSize,
        crop: { scale: [0.05, 0.4], interpolation: "bicubic" },
        blur: { p: 0.5, sigma: [0.1, 2] },
      };
      return localCrops ? [...global, local] : global;
    },
    embed(s, network, { view1, view2, local }, { projectorLayers, predictorNorm, hiddenDim, outDim, localKeys }) {
      const student = s.child("student");
      const teacher = s.ema("teacher", student, s.scalar("momentum"));
      const project = (net: Scope, x: Value) =>
        head(net.child("projector"), features(network, net, x), projectorLayers, hiddenDim, outDim, true);
      const predict = (x: Value) =>
        head(student.child("predictor"), project(student, x), 2, hiddenDim, outDim, predictorNorm);
      const each = local ? [view1!, view2!, local] : [view1!, view2!];
      const keyed = localKeys ? each : each.slice(0, 2);
      return {
        q: Concat(
          each.map((x) => viewByView(x, predict)),
          { axis: 0 },
        ),
        k: Concat(
          keyed.map((x) => viewByView(x, (images) => project(teacher, images))),
          { axis: 0 },
        ),
      };
    },
    loss(_s, { q, k }, _all, o) {
      checkedViews(q!, 2 + o.localCrops, `${o.localCrops} local crops`);
      return mocov3Loss(l2normalize(q!), stopGradient(l2normalize(k!)), o);
    },
  },
};
const formOf = (o: CacrOptions): Form => oneOf("form of cacr", o.form, forms);

export const cacr: Method<CacrOptions> = {
  summary: "Far positives are pulled harder, close negatives pushed harder; K positives each",
  choices: { form: keysOf(forms), cost: keysOf(terms) },
  paper: "Zheng et al., TMLR 2023, arXiv 2105.03746",
  defaults: {
    form: "batch",
    positives: 4,
    alpha: 1,
    beta: 1,
    tPos: 1,
    tNeg: 2,
    cost: "euclidean",
    rbfT: 2,
    weighPositives: true,
    weighNegatives: true,
    debiased: false,
    tauPlus: 0.1,
    queueSize: 4096,
    momentum: 0.999,
    bnGroups: 4,
    intraBatch: true,
    cachedQueueCosts: false,
    temperature: 0.2,
    localCrops: 0,
    localSize: 96,
    localKeys: false,
    batchSum: false,
    halfCost: false,
    projectorLayers: 2,
    predictorNorm: false,
    hiddenDim: 512,
    outDim: 128,
  },
  encoder: "student.backbone",
  released: () => ({ cachedQueueCosts: true, batchSum: true, halfCost: true }),

  views: (o, size) => formOf(o).views(o, size),
  scalars: ({ momentum }) => ({ momentum }),
  draws: ({ form, bnGroups }, b) => (form === "queue" ? shuffleSpecs(bnGroups, b) : []),
  draw: (random, { form, bnGroups }, b) => (form === "queue" ? shuffleDraw(random, bnGroups, b) : {}),
  embed: (s, network, inputs, o) => formOf(o).embed(s, network, inputs, o),
  loss: (s, own, all, o) => formOf(o).loss(s, own, all, o),
};
