/** Layers: small compositions that own parameters, with PyTorch's names and initial distributions. */
import { constant, dims, type Value } from "../src/onnx/graph.js";
import {
  Add,
  BatchNormalization,
  BatchNormInternal,
  Cast,
  Clip,
  Concat,
  Conv,
  Div,
  Erf,
  Gelu,
  geluFromParts,
  Gemm,
  InstanceNormalization,
  layerNormFromParts,
  LayerNormalization,
  MatMul,
  Mul,
  Pad,
  perChannel,
  ReduceMean,
  ReduceSumSquare,
  Relu,
  Reshape,
  Shape,
  Slice,
  Split,
  Sqrt,
  Sub,
  Transpose,
  type Window,
} from "../src/ops/index.js";
import type { Init } from "../src/step.js";
import type { Observed, Scope } from "./scope.js";
import { suitsWinograd, winograd } from "./winograd.js";

export const zerosInit: Init = { name: "constant", value: 0 };
export const onesInit: Init = { name: "constant", value: 1 };

/** U(±1/√fanIn): torch.nn.Linear and Conv2d, weight and bias alike */
export const torchDefault = (fanIn: number): Init => ({
  name: "uniform",
  low: -1 / Math.sqrt(fanIn),
  high: 1 / Math.sqrt(fanIn),
});

/** N(0, 2/fan): kaiming_normal_ for ReLU */
export const kaimingNormal = (fan: number): Init => ({ name: "normal", std: Math.sqrt(2 / fan) });

/** U(±√(6/(fanIn + fanOut))): xavier_uniform_ */
export const xavierUniform = (fanIn: number, fanOut: number): Init => {
  const bound = Math.sqrt(6 / (fanIn + fanOut));
  return { name: "uniform", low: -bound, high: bound };
};

export interface LinearOptions {
  bias?: boolean;
  init?: Init;
  biasInit?: Init;
}
/** y = x·Wᵀ + b: x [N,in] or [B,N,in], weight [out,in]. y has the type of x, whatever the product is computed in. */
export function linear(s: Scope, x: Value, width: number, options: LinearOptions = {}): Value {
  const { w, b } = linearParameters(s, x, width, options);
  return Cast(affine(s.narrowed(x), w, b), x.dtype);
}

/**
 * Linear layers whose weights are stacked in one [k·width, in] (a transformer's q, k and v): the i-th of the k on xs[i]. Where all read the
 * same value, they are one product.
 */
export function stackedLinear(s: Scope, xs: readonly Value[], width: number, options: LinearOptions = {}): Value[] {
  const parts = xs.map(() => width);
  if (xs.every((x) => x === xs[0])) return Split(linear(s, xs[0]!, width * xs.length, options), parts, { axis: -1 });
  const { w, b } = linearParameters(s, xs[0]!, width * xs.length, options);
  const [ws, bs] = [Split(w, parts, { axis: 0 }), b && Split(b, parts, { axis: 0 })];
  return xs.map((x, i) => Cast(affine(s.narrowed(x), ws[i]!, bs && bs[i]!), x.dtype));
}

/** Weight [width, in] and bias [width] of layers on x, in the type of products. */
function linearParameters(s: Scope, x: Value, width: number, { bias = true, init, biasInit }: LinearOptions) {
  const inner = x.shape.at(-1) as number;
  const w = s.narrowed(s.parameter("weight", [width, inner], init ?? torchDefault(inner)));
  const b = bias ? s.narrowed(s.parameter("bias", [width], biasInit ?? torchDefault(inner))) : null;
  return { w, b };
}
function affine(x: Value, w: Value, b: Value | null): Value {
  const [width, inner] = w.shape as [number, number];
  if (x.shape.length === 2) return Gemm(x, w, b, { transB: 1 });
  const outer = x.shape.slice(0, -1);
  if (outer.every((d) => typeof d === "number"))
    return Reshape(Gemm(Reshape(x, [-1, inner]), w, b, { transB: 1 }), [...outer, width]);
  const y = MatMul(x, Transpose(w)); // a symbolic batch cannot be folded into rows
  return b ? Add(y, b) : y;
}

export interface ConvOptions extends Window {
  bias?: boolean;
  init?: Init;
  biasInit?: Init;
}
/** A k×k convolution, weight [out, in/group, k, k]; padded by k div 2 taps unless given, which keeps the size at stride 1 */
export function conv(
  s: Scope,
  x: Value,
  channels: number,
  kernel: number,
  { bias = false, init, biasInit, ...window }: ConvOptions = {},
): Value {
  const inner = (x.shape[1] as number) / (window.group ?? 1);
  const fan = inner * kernel * kernel;
  const w = s.parameter("weight", [channels, inner, kernel, kernel], init ?? torchDefault(fan));
  const b = bias ? s.parameter("bias", [channels], biasInit ?? torchDefault(fan)) : null;
  const [down, across] = (window.dilations ?? [1, 1]).map((d) => d * Math.floor(kernel / 2)) as [number, number];
  return convolution(s, x, w, b, { pads: [down, across, down, across], ...window });
}

/** w ⋆ x (+ b) in the type of x, whatever the product is computed in. */
export function convolution(s: Scope, x: Value, w: Value, b: Value | null, window: Window): Value {
  const form = s.mode === "train" ? quickest(s, x, w, window) : Conv;
  return Cast(form(s.narrowed(x), s.narrowed(w), b && s.narrowed(b), window), x.dtype);
}

type Convolving = (x: Value, w: Value, b: Value | null, window: Window) => Value;
/** On the CPU as measured there; on a card, and in 16 bits, the provider's own kernels. bfloat16 has none for ConvGrad. */
function quickest(s: Scope, x: Value, w: Value, window: Window): Convolving {
  if (s.compute === "bfloat16" && cutsPatches(x, w, window)) return patchwise;
  if (s.compute !== "float32" || s.device !== "cpu" || s.convolutions === "exact") return Conv;
  if (suitsProduct(x, w, window)) return convAsProduct;
  if (suitsWinograd(x, w, window)) return (v, k, b) => (b ? Add(winograd(v, k), perChannel(b, v)) : winograd(v, k));
  return Conv;
}

/** Windows that lie side by side and cover the image. */
const cutsPatches = (x: Value, w: Value, { strides = [1, 1], pads = [0, 0, 0, 0], group = 1 }: Window): boolean =>
  group === 1 &&
  pads.every((p) => p === 0) &&
  strides.every((stride, i) => stride === w.shape[2 + i] && (x.shape[2 + i] as number) % stride === 0);

/** Each patch as a row: [N·h·w, C·kh·kw] × wᵀ */
const patchwise: Convolving = (x, w, b) => {
  const [n, c, height, width] = dims(x) as [number, number, number, number];
  const [o, , kh, kw] = dims(w) as [number, number, number, number];
  const [rows, columns] = [height / kh, width / kw];
  const cut = Transpose(Reshape(x, [n, c, rows, kh, columns, kw]), { perm: [0, 2, 4, 1, 3, 5] });
  const y = Gemm(Reshape(cut, [n * rows * columns, c * kh * kw]), Reshape(w, [o, -1]), b, { transB: 1 });
  return Transpose(Reshape(y, [n, rows, columns, o]), { perm: [0, 3, 1, 2] });
};

/** Largest output map (cells) that convAsProduct is used for. */
const smallMap = 4;

/** The runtime convolves image by image: on small maps that reads all weights again for a few cells. */
function suitsProduct(
  x: Value,
  w: Value,
  { strides = [1, 1], pads = [0, 0, 0, 0], group = 1, dilations = [1, 1] }: Window,
): boolean {
  const [n, , h, width] = x.shape;
  if (typeof n !== "number" || typeof h !== "number" || typeof width !== "number") return false;
  const [kh, kw] = w.shape.slice(2) as [number, number];
  const cells =
    (Math.floor((h + pads[0] + pads[2] - kh) / strides[0]) + 1) *
    (Math.floor((width + pads[1] + pads[3] - kw) / strides[1]) + 1);
  return cells <= smallMap && group === 1 && dilations.every((d) => d === 1);
}

/** The convolution of the whole batch as one product: patches [N·L, C·kh·kw] × wᵀ. Its gradients are products too. */
export function convAsProduct(
  x: Value,
  w: Value,
  b: Value | null,
  { strides = [1, 1], pads = [0, 0, 0, 0] }: Window,
): Value {
  const [n, c, h, width] = dims(x) as [number, number, number, number];
  const [o, , kh, kw] = dims(w) as [number, number, number, number];
  const [top, left, bottom, right] = pads;
  const ho = Math.floor((h + top + bottom - kh) / strides[0]) + 1;
  const wo = Math.floor((width + left + right - kw) / strides[1]) + 1;
  const nhwc = Pad(Transpose(x, { perm: [0, 2, 3, 1] }), [0, top, left, 0, 0, bottom, right, 0]);
  const taps = Array.from({ length: kh * kw }, (_, t) => {
    const starts = [Math.floor(t / kw), t % kw];
    const ends = [starts[0]! + (ho - 1) * strides[0] + 1, starts[1]! + (wo - 1) * strides[1] + 1];
    return Slice(nhwc, { starts, ends, axes: [1, 2], steps: [...strides] }); // [N,ho,wo,C]
  });
  const columns = Reshape(Concat(taps, { axis: 3 }), [n * ho * wo, kh * kw, c]);
  const patches = Reshape(Transpose(columns, { perm: [0, 2, 1] }), [n * ho * wo, c * kh * kw]); // the weights' own order
  const y = Gemm(patches, Reshape(w, [o, c * kh * kw]), b, { transB: 1 });
  return Transpose(Reshape(y, [n, ho, wo, o]), { perm: [0, 3, 1, 2] });
}

export interface BatchNormOptions {
  epsilon?: number;
  /** Share of the new statistics in the running ones, as PyTorch counts it. */
  momentum?: number;
  /** Scale and shift learned; without them γ = 1, β = 0. */
  affine?: boolean;
  /** What its tensors start at; default γ = 1, β = 0, mean 0, variance 1. */
  start?: Partial<Record<"weight" | "bias" | "running_mean" | "running_var", Init>>;
}
/** BatchNorm over all axes but 1, with running statistics as state (variance unbiased, as PyTorch's). */
export function batchNorm(
  s: Scope,
  x: Value,
  { epsilon = 1e-5, momentum = 0.1, affine = true, start = {} }: BatchNormOptions = {},
): Value {
  const c = x.shape[1] as number;
  const own = s.batchNorms === "fixed" ? s.frozen() : s;
  const scale = affine
    ? own.parameter("weight", [c], start.weight ?? onesInit)
    : constant([c], Array<number>(c).fill(1));
  const bias = affine ? own.parameter("bias", [c], start.bias ?? zerosInit) : constant([c], Array<number>(c).fill(0));
  const [meanInit, varianceInit] = [start.running_mean ?? zerosInit, start.running_var ?? onesInit];
  if (s.mode === "eval" || s.batchNorms === "fixed") {
    const mean = s.state("running_mean", [c], meanInit);
    return BatchNormalization(x, scale, bias, mean, s.state("running_var", [c], varianceInit), { epsilon });
  }

  const groups = s.bnGroups > 1 ? Split(x, grouped(s, x), { axis: 0 }) : [x];
  const normalized = groups.map((v) =>
    (s.dialect === "training" ? fusedBatchNorm : plainBatchNorm)(v, scale, bias, epsilon),
  );
  // the first group's statistics run on, as the first device's buffers are the ones saved
  const [, batchMean, batchVariance] = normalized[0]!;
  const n = dims(groups[0]!).reduce((a, b) => a * b, 1) / c;
  s.average("running_mean", [c], meanInit, { value: batchMean }, momentum);
  s.average("running_var", [c], varianceInit, { ...batchVariance, scale: n / (n - 1) }, momentum);
  return Concat(
    normalized.map(([y]) => y),
    { axis: 0 },
  );
}

function grouped(s: Scope, x: Value): number[] {
  const n = x.shape[0] as number;
  if (n % s.bnGroups)
    throw new Error(`${s.path}: a batch of ${n} does not divide into bnGroups = ${s.bnGroups} equal groups.`);
  return Array<number>(s.bnGroups).fill(n / s.bnGroups);
}

type Normalized = [y: Value, mean: Value, variance: Observed];
/** The training library's kernel hands out 1/√(σ² + ε). */
function fusedBatchNorm(x: Value, scale: Value, bias: Value, epsilon: number): Normalized {
  const [y, mean, inverse] = BatchNormInternal(x, scale, bias, { epsilon });
  const of = (v: Value): Value => Sub(Div(1, Mul(v, v)), epsilon);
  return [y, mean, { value: inverse, read: { name: `1/x² − ${epsilon}`, of } }];
}
function plainBatchNorm(given: Value, scale: Value, bias: Value, epsilon: number): Normalized {
  const x = Cast(given, "float32");
  const axes = x.shape.flatMap((_, i) => (i === 1 ? [] : [i]));
  const mean = ReduceMean(x, { axes });
  const centred = Sub(x, mean);
  const variance = ReduceMean(Mul(centred, centred), { axes });
  const factor = Div(perChannel(scale, x), Sqrt(Add(variance, epsilon)));
  const flat = (v: Value) => Reshape(v, [-1]);
  return [Cast(Add(Mul(centred, factor), perChannel(bias, x)), given.dtype), flat(mean), { value: flat(variance) }];
}

/** f in float32, its result in the type of x */
export const inFloat32 = (x: Value, f: (x: Value) => Value): Value => Cast(f(Cast(x, "float32")), x.dtype);

/** LayerNorm over the last axis, PyTorch names */
export function layerNorm(s: Scope, x: Value, epsilon = 1e-5): Value {
  const d = x.shape.at(-1) as number;
  const [scale, bias] = [s.parameter("weight", [d], onesInit), s.parameter("bias", [d], zerosInit)];
  const parts = s.mode === "train" && s.device === "cpu";
  return inFloat32(x, (v) =>
    parts ? layerNormFromParts(v, scale, bias, epsilon) : LayerNormalization(v, scale, bias, { epsilon })[0],
  );
}

/** GroupNorm (Wu and He, ECCV 2018): x [N,C,H,W] normalised over each group of C/groups channels and all places, PyTorch names */
export function groupNorm(s: Scope, x: Value, groups = 32, epsilon = 1e-5): Value {
  const c = x.shape[1] as number;
  if (c % groups) throw new Error(`${s.path}: ${c} channels do not divide into ${groups} equal groups.`);
  const plain = (value: number) => constant([groups], Array<number>(groups).fill(value));
  const normalized = InstanceNormalization(Reshape(x, [0, groups, -1]), plain(1), plain(0), { epsilon });
  const [scale, bias] = [s.parameter("weight", [c], onesInit), s.parameter("bias", [c], zerosInit)];
  return Add(Mul(Reshape(normalized, Shape(x)), perChannel(scale, x)), perChannel(bias, x));
}

/** Exact GELU: x·Φ(x). The 8 bits of bfloat16 are too few for its inner sums. */
export function gelu(s: Scope, x: Value): Value {
  if (x.dtype === "bfloat16") return inFloat32(x, (v) => gelu(s, v));
  if (s.mode === "train" && s.device === "cpu") return geluFromParts(x);
  return s.dialect === "training" ? Gelu(x) : Mul(x, Mul(0.5, Add(1, Erf(Mul(x, Math.SQRT1_2)))));
}

/** x/max(‖x‖, 1e-12) along an axis: torch.nn.functional.normalize. Clipped before the root, which has no slope at 0. */
export const l2normalize = (x: Value, axis = -1): Value =>
  Div(x, Sqrt(Clip(ReduceSumSquare(x, { axes: [axis], keepdims: 1 }), 1e-24, null)));

export interface MlpLayer extends LinearOptions {
  width: number;
  /** after the linear layer: BatchNorm, BatchNorm without γ and β, or nothing */
  norm?: "bn" | "bnPlain";
  relu?: boolean;
}
/** Linear, BatchNorm, ReLU in turn, numbered as torch.nn.Sequential numbers them. */
export function mlp(s: Scope, x: Value, layers: readonly MlpLayer[]): Value {
  let index = 0;
  return layers.reduce((v, { width, norm, relu, ...options }) => {
    let y = linear(s.child(index++), v, width, options);
    if (norm) y = batchNorm(s.child(index++), y, { affine: norm === "bn" });
    if (relu) {
      y = Relu(y);
      index++;
    }
    return y;
  }, x);
}

/** Linear–ReLU–Linear, the MoCo-v2 and SimCLR projector */
export const projector = (s: Scope, x: Value, hidden: number, out: number): Value =>
  mlp(s, x, [{ width: hidden, relu: true }, { width: out }]);

/** Linear–BN–ReLU–Linear, the projector and predictor of BYOL and ISD; `bias`: of the last layer */
export const bnProjector = (s: Scope, x: Value, hidden: number, out: number, { bias = true } = {}): Value =>
  mlp(s, x, [
    { width: hidden, norm: "bn", relu: true },
    { width: out, bias },
  ]);

/** AdaptiveAvgPool2d of a map [B,C,h,w] to [B,C,g,g]: cell i is the mean over ⌊i·h/g⌋ … ⌈(i+1)·h/g⌉. */
export function adaptiveAveragePool(map: Value, grid: number): Value {
  const [h, w] = map.shape.slice(2) as [number, number];
  return MatMul(MatMul(poolingRows(h, grid), map), Transpose(poolingRows(w, grid)));
}
/** [g,n]: row i holds 1/length over its cell */
function poolingRows(n: number, grid: number): Value {
  const rows = Array.from({ length: grid }, (_, i) => {
    const [from, to] = [Math.floor((i * n) / grid), Math.ceil(((i + 1) * n) / grid)];
    return Array.from({ length: n }, (_, j) => (from <= j && j < to ? 1 / (to - from) : 0));
  });
  return constant([grid, n], rows.flat());
}
