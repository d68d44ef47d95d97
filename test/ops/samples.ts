/** One or more samples for every op: inputs inside the domain, away from kinks, over broadcast, size-1 and awkward shapes. */
import type * as ops from "../../src/ops/index.js";
import * as o from "../../src/ops/index.js";
import { constant, type Value } from "../../src/onnx/graph.js";

export interface Input {
  shape: readonly number[];
  /** Uniform in [low, high]; default [−2, 2]. */
  low?: number;
  high?: number;
  /** Whole numbers 0…below−1, int64: an index, without a gradient. */
  below?: number;
  bool?: true;
  /** Values at least this far apart (for extrema), in random order. */
  apart?: number;
}
export interface Sample {
  inputs: readonly Input[];
  /** float64: kernels exist, central differences; linear: ⟨v, Jᵀg⟩ = ⟨Jv, g⟩ per argument in float32; float32: fourth-order stencil; forward: no gradient. */
  check: "float64" | "linear" | "float32" | "forward";
  build: (...x: Value[]) => Value;
  /** Forward by plain JavaScript, where the op's meaning is worth saying twice. */
  naive?: (...x: number[][]) => number[];
}

/** Names in src/ops that are one node: PascalCase. */
type OpName = {
  [K in keyof typeof ops]: K extends `${infer First}${string}` ? (First extends Lowercase<First> ? never : K) : never;
}[keyof typeof ops];

const at = (...shape: number[]): Input => ({ shape });
const positive = (...shape: number[]): Input => ({ shape, low: 0.3, high: 3 });
const away = (...shape: number[]): Input => ({ shape, low: 0.2, high: 2 });
const index = (below: number, ...shape: number[]): Input => ({ shape, below });
const f64 = (build: Sample["build"], ...inputs: Input[]): Sample => ({ inputs, check: "float64", build });
const f32 = (build: Sample["build"], ...inputs: Input[]): Sample => ({ inputs, check: "float32", build });
const linear = (build: Sample["build"], ...inputs: Input[]): Sample => ({ inputs, check: "linear", build });
const forward = (build: Sample["build"], naive: NonNullable<Sample["naive"]>, ...inputs: Input[]): Sample => ({
  inputs,
  check: "forward",
  build,
  naive,
});

const unary = (f: (x: Value) => Value, domain: (...shape: number[]) => Input = at): Sample[] => [
  f64(f, domain(2, 3)),
  f64(f, domain(1)),
  f64(f, domain(5, 1, 2)),
];
const unary32 = (f: (x: Value) => Value, domain: (...shape: number[]) => Input = at): Sample[] => [
  f32(f, domain(2, 3)),
  f32(f, domain(1)),
];
const binary = (
  f: (a: Value, b: Value) => Value,
  a: (...s: number[]) => Input = at,
  b: (...s: number[]) => Input = a,
): Sample[] => [f64(f, a(2, 3), b(2, 3)), f64(f, a(2, 1, 4), b(3, 1)), f64(f, a(3), b(2, 1, 3)), f64(f, a(), b(2, 2))];
const compare = (f: (a: Value, b: Value) => Value, plain: (a: number, b: number) => boolean): Sample[] => [
  forward(
    (a, b) => o.Cast(f(a, b), "float32"),
    (a, b) => a!.map((v, i) => Number(plain(v, b![i]!))),
    { shape: [3, 4], low: -2, high: 2 },
    { shape: [3, 4], low: -2, high: 2 },
  ),
];
const logical = (f: (a: Value, b: Value) => Value, plain: (a: boolean, b: boolean) => boolean): Sample[] => [
  forward(
    (a, b) => o.Cast(f(o.Greater(a, 0), o.Greater(b, 0)), "float32"),
    (a, b) => a!.map((v, i) => Number(plain(v > 0, b![i]! > 0))),
    at(9),
    at(9),
  ),
];
const rounding = (f: (x: Value) => Value, plain: (x: number) => number): Sample[] => [
  forward(f, (x) => x!.map(plain), { shape: [4, 5], low: -3, high: 3 }),
];
const reduction = (f: ops.Reducing, input: (...s: number[]) => Input = at): Sample[] => [
  f64((x) => f(x), input(2, 3)),
  f64((x) => f(x, { axes: [1] }), input(2, 3, 2)),
  f64((x) => f(x, { axes: [0, -1], keepdims: 0 }), input(2, 3, 4)),
  f64((x) => f(x, { axes: [0], keepdims: 0 }), input(1, 5)),
];
const distinct = (...shape: number[]): Input => ({ shape, apart: 0.1 });
const halfEven = (x: number): number => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/** n numbers spread over [low, high], out of order. */
const scattered = (n: number, low: number, high: number): number[] =>
  Array.from({ length: n }, (_, i) => low + ((high - low) * ((i * 29) % n)) / n);
/** Boxes that reach over the map's edges, one of no width. */
const boxes = constant([3, 4], [1, 2, 7, 11.5, -6, -2.3, 4, 3, 5, 1, 5, 30]);
/** Greedy suppression of nine boxes in two classes, (image, class, box) of those kept. */
function suppressed(corners: number[], scores: number[]): number[][] {
  const box = (i: number) => {
    const [a, b, c, d] = corners.slice(4 * i, 4 * i + 4) as [number, number, number, number];
    return [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)] as const;
  };
  const area = ([y1, x1, y2, x2]: readonly number[]) => Math.max(0, y2! - y1!) * Math.max(0, x2! - x1!);
  const overlap = (i: number, j: number): number => {
    const [p, q] = [box(i), box(j)];
    const common = area([Math.max(p[0], q[0]), Math.max(p[1], q[1]), Math.min(p[2], q[2]), Math.min(p[3], q[3])]);
    return common / (area(p) + area(q) - common);
  };
  return [0, 1].flatMap((c) => {
    const own = scores.slice(9 * c, 9 * c + 9);
    const kept: number[] = [];
    for (const i of own.map((_, k) => k).sort((p, q) => own[q]! - own[p]!))
      if (own[i]! > 0.1 && kept.length < 4 && kept.every((j) => overlap(i, j) <= 0.3)) kept.push(i);
    return kept.map((i) => [0, c, i]);
  });
}

export const samples = {
  // elementwise
  Add: binary(o.Add),
  Sub: binary(o.Sub),
  Mul: binary(o.Mul),
  Div: binary(o.Div, at, positive),
  Pow: binary(o.Pow, positive, at),
  Max: binary(o.Max, distinct, () => ({ shape: [1], low: 0.33, high: 0.34 })),
  Min: binary(o.Min, distinct, () => ({ shape: [1], low: 0.33, high: 0.34 })),
  Mod: [
    forward(
      (a, b) => o.Cast(o.Mod(a, b), "float32"),
      (a, b) => a!.map((v, i) => v % (b![i]! || 1)),
      index(9, 6),
      { shape: [6], below: 1 },
    ),
  ].map((s) => ({
    ...s,
    build: (a: Value) => o.Cast(o.Mod(a, constant([], 4, "int64")), "float32"),
    naive: (a: number[]) => a.map((v) => v % 4),
    inputs: [index(9, 6)],
  })),
  Neg: unary(o.Neg),
  Abs: unary(o.Abs, away),
  Exp: unary(o.Exp),
  Log: unary(o.Log, positive),
  Sqrt: unary(o.Sqrt, positive),
  Reciprocal: unary(o.Reciprocal, positive),
  Tanh: unary(o.Tanh),
  Sigmoid: unary(o.Sigmoid),
  Relu: [...unary32(o.Relu, away), f32(o.Relu, { shape: [4], low: -2, high: -0.2 })],
  LeakyRelu: [
    f32((x) => o.LeakyRelu(x, 0.2), { shape: [2, 3], low: -2, high: -0.2 }),
    f32((x) => o.LeakyRelu(x), away(3)),
  ],
  Elu: [...unary32((x) => o.Elu(x, 1.5), away), f32((x) => o.Elu(x), { shape: [4], low: -2, high: -0.2 })],
  PRelu: [
    f32(o.PRelu, { shape: [2, 3, 2], low: -2, high: -0.2 }, at(3, 1)),
    f32(o.PRelu, { shape: [2, 3], low: -2, high: -0.2 }, at(1)),
    f32(o.PRelu, away(2, 3), at(3)),
  ],
  HardSigmoid: [
    f32((x) => o.HardSigmoid(x), at(2, 3)),
    f32((x) => o.HardSigmoid(x, { alpha: 0.2, beta: 0.4 }), { shape: [3], low: 3.2, high: 5 }),
    f32((x) => o.HardSigmoid(x), { shape: [3], low: -5, high: -3.2 }),
  ],
  HardSwish: [
    f32(o.HardSwish, at(2, 3)),
    f32(o.HardSwish, { shape: [3], low: 3.2, high: 5 }),
    f32(o.HardSwish, { shape: [3], low: -5, high: -3.2 }),
  ],
  Softplus: unary32(o.Softplus),
  Erf: unary32(o.Erf),
  Gelu: unary32(o.Gelu),
  Sin: unary32(o.Sin),
  Cos: unary32(o.Cos),
  Sign: rounding(o.Sign, Math.sign),
  Floor: rounding(o.Floor, Math.floor),
  Ceil: rounding(o.Ceil, Math.ceil),
  Round: [
    ...rounding(o.Round, halfEven),
    forward(
      (x) => o.Round(o.Mul(o.Cast(x, "float32"), 0.5)),
      (x) => x!.map((v) => halfEven(v / 2)),
      index(9, 12),
    ),
  ],
  Greater: compare(o.Greater, (a, b) => a > b),
  GreaterOrEqual: compare(o.GreaterOrEqual, (a, b) => a >= b),
  Less: compare(o.Less, (a, b) => a < b),
  LessOrEqual: compare(o.LessOrEqual, (a, b) => a <= b),
  Equal: [
    forward(
      (a, b) => o.Cast(o.Equal(a, b), "float32"),
      (a, b) => a!.map((v, i) => Number(v === b![i])),
      index(3, 20),
      index(3, 20),
    ),
  ],
  And: logical(o.And, (a, b) => a && b),
  Or: logical(o.Or, (a, b) => a || b),
  Not: [
    forward(
      (a) => o.Cast(o.Not(o.Greater(a, 0)), "float32"),
      (a) => a!.map((v) => Number(!(v > 0))),
      at(7),
    ),
  ],
  IsNaN: [
    forward(
      (a) => o.Cast(o.IsNaN(o.Log(a)), "float32"),
      (a) => a!.map((v) => Number(v < 0)),
      at(9),
    ),
  ],
  Where: [
    f64((a, b) => o.Where(o.Greater(constant([3], [1, -1, 1], "float64"), 0), a, b), at(2, 3), at(3)),
    f64((a) => o.Where(o.Greater(a, 0), a, 0.5), away(4)),
  ],
  Clip: [
    f64((x) => o.Clip(x, -0.5, 0.5), { shape: [3, 3], low: 0.6, high: 2 }),
    f64((x) => o.Clip(x, -3, 3), at(2, 2)),
    f64((x) => o.Clip(x, null, 3), at(3)),
    f64((x) => o.Clip(x, -3, null), at(3)),
  ],
  Cast: [f32((x) => o.Cast(o.Cast(x, "float64"), "float32"), at(2, 3))],
  Identity: unary(o.Identity),

  // reduction
  ReduceSum: reduction(o.ReduceSum),
  ReduceMean: reduction(o.ReduceMean),
  ReduceSumSquare: reduction(o.ReduceSumSquare),
  ReduceL1: reduction(o.ReduceL1, away),
  ReduceL2: reduction(o.ReduceL2, away),
  ReduceLogSumExp: reduction(o.ReduceLogSumExp),
  ReduceMax: reduction(o.ReduceMax, distinct),
  ReduceMin: reduction(o.ReduceMin, distinct),
  ArgMax: [
    forward(
      (x) => o.Cast(o.ArgMax(x, { axis: 1, keepdims: 0 }), "float32"),
      (x) => [0, 1].map((r) => [0, 1, 2].reduce((m, c) => (x![3 * r + c]! > x![3 * r + m]! ? c : m), 0)),
      distinct(2, 3),
    ),
  ],
  TopK: [
    f64((x) => o.TopK(x, 2, { axis: 1 })[0], distinct(3, 5)),
    f64((x) => o.TopK(x, 1, { axis: 0, largest: 0 })[0], distinct(4, 1)),
  ],
  CumSum: [f64((x) => o.CumSum(x, 1), at(2, 4)), f64((x) => o.CumSum(x, 0, { reverse: 1 }), at(3, 1))],
  Softmax: [
    f32((x) => o.Softmax(x), at(2, 3)),
    f32((x) => o.Softmax(x, { axis: 1 }), at(2, 3, 2)),
    f32((x) => o.Softmax(x), at(3, 1)),
  ],
  LogSoftmax: [f32((x) => o.LogSoftmax(x), at(2, 3)), f32((x) => o.LogSoftmax(x, { axis: 0 }), at(4, 2))],
  SoftmaxCrossEntropyLoss: [
    f32((x, y) => o.SoftmaxCrossEntropyLoss(x, y)[0], at(4, 5), index(5, 4)),
    f32((x, y) => o.SoftmaxCrossEntropyLoss(x, y)[0], at(1, 3), index(3, 1)),
    f32(
      (x) => o.SoftmaxCrossEntropyLoss(x, constant([2, 3], [0, 255, 2, 1, 255, 3], "int64"), { ignore_index: 255 })[0],
      at(2, 4, 3),
    ),
    f32((x) => o.SoftmaxCrossEntropyLoss(x, constant([3], [-1, 1, 0], "int64"), { ignore_index: -1 })[0], at(3, 2)),
  ],

  // movement
  Reshape: [
    f64((x) => o.Reshape(x, [3, -1]), at(2, 3, 2)),
    f64((x) => o.Reshape(x, [0, 6]), at(2, 3, 2)),
    f64((x) => o.Reshape(x, []), at(1)),
  ],
  Transpose: [f64((x) => o.Transpose(x, { perm: [2, 0, 1] }), at(2, 3, 4)), f64((x) => o.Transpose(x), at(1, 5))],
  Concat: [f64((a, b, c) => o.Concat([a, b, c], { axis: -1 }), at(2, 1), at(2, 3), at(2, 2))],
  Split: [
    f64((x) => o.Add(o.Split(x, [1, 3], { axis: 1 })[1]!, o.Split(x, [1, 3], { axis: 1 })[0]!), at(2, 4)),
    f64((x) => o.Split(x, [2, 1], { axis: 0 })[1]!, at(3, 2)),
  ],
  Slice: [
    f64((x) => o.Slice(x, { starts: [1], ends: [3], axes: [0] }), at(4, 2)),
    f64((x) => o.Slice(x, { starts: [0, -1], ends: [5, -100], axes: [0, 1], steps: [2, -1] }), at(5, 3)),
    f64((x) => o.Slice(x, { starts: [-2], ends: [100], axes: [-1] }), at(2, 5)),
    f64((x) => o.Slice(x, { starts: [3], ends: [0], axes: [0], steps: [-2] }), at(5, 1)),
  ],
  Gather: [
    f64((x, i) => o.Gather(x, i), at(4, 3), index(4, 6)),
    f64((x, i) => o.Gather(x, i, { axis: 1 }), at(2, 3, 2), index(3, 2, 2)),
  ],
  GatherElements: [f64((x, i) => o.GatherElements(x, i, { axis: 1 }), at(2, 4), index(4, 2, 3))],
  GatherND: [
    f64((x, i) => o.GatherND(x, i), at(3, 3), index(3, 4, 2)),
    f64((x, i) => o.GatherND(x, i), at(3, 2), index(3, 2, 1)),
  ],
  ScatterND: [
    f64((x, u) => o.ScatterND(x, constant([2, 1], [2, 0], "int64"), u), at(3, 2), at(2, 2)),
    f64((x, i, u) => o.ScatterND(x, i, u, { reduction: "add" }), at(3, 2), index(3, 4, 1), at(4, 2)),
  ],
  ScatterElements: [
    f64((x, u) => o.ScatterElements(x, constant([2, 2], [0, 2, 1, 0], "int64"), u, { axis: 1 }), at(2, 3), at(2, 2)),
    f64((x, i, u) => o.ScatterElements(x, i, u, { axis: 0, reduction: "add" }), at(3, 2), index(3, 4, 2), at(4, 2)),
  ],
  Expand: [f64((x) => o.Expand(x, [3, 2, 4]), at(2, 1)), f64((x) => o.Expand(x, [2, 2]), at())],
  Squeeze: [f64((x) => o.Squeeze(x, [1]), at(2, 1, 3))],
  Unsqueeze: [f64((x) => o.Unsqueeze(x, [0, 2]), at(2, 3))],
  Pad: [
    f64((x) => o.Pad(x, [1, 0, 2, 1]), at(2, 3)),
    forward(
      (x) => o.Pad(x, [2, 1], { mode: "reflect" }),
      (x) => [x![2]!, x![1]!, x![0]!, x![1]!, x![2]!, x![3]!, x![2]!],
      at(4),
    ),
  ],
  Tile: [f64((x) => o.Tile(x, [2, 3]), at(2, 2)), f64((x) => o.Tile(x, [1, 4]), at(3, 1))],
  Shape: [
    forward(
      (x) => o.Cast(o.Shape(x), "float32"),
      () => [2, 1, 4],
      at(2, 1, 4),
    ),
  ],
  OneHot: [
    forward(
      (i) => o.OneHot(i, 3),
      (i) => i!.flatMap((v) => [0, 1, 2].map((c) => Number(c === v))),
      index(3, 5),
    ),
  ],

  // contraction
  MatMul: [
    f64(o.MatMul, at(2, 3), at(3, 4)),
    f64(o.MatMul, at(2, 1, 2, 3), at(4, 3, 1)),
    f64(o.MatMul, at(2, 5, 3), at(3, 2)),
    f64(o.MatMul, at(1, 1), at(1, 1)),
  ],
  Gemm: [
    f64((a, b, c) => o.Gemm(a, b, c, { alpha: 0.5, beta: 2 }), at(2, 3), at(3, 4), at(4)),
    f64((a, b) => o.Gemm(a, b, null, { transA: 1 }), at(3, 2), at(3, 4)),
    f64((a, b, c) => o.Gemm(a, b, c, { transB: 1 }), at(2, 3), at(4, 3), at(2, 1)),
    f64((a, b) => o.Gemm(a, b, null, { transA: 1, transB: 1, alpha: -1.5 }), at(3, 2), at(4, 3)),
  ],
  Conv: [
    linear((x, w, b) => o.Conv(x, w, b, { pads: [1, 1, 1, 1] }), at(2, 3, 5, 6), at(4, 3, 3, 3), at(4)),
    linear((x, w) => o.Conv(x, w, null, { strides: [2, 2], pads: [1, 1, 1, 1] }), at(2, 2, 6, 5), at(3, 2, 3, 3)),
    linear((x, w) => o.Conv(x, w, null, { strides: [2, 2], pads: [3, 3, 3, 3] }), at(1, 3, 9, 9), at(2, 3, 7, 7)),
    linear((x, w) => o.Conv(x, w), at(2, 3, 4, 4), at(5, 3, 1, 1)),
    linear((x, w) => o.Conv(x, w, null, { strides: [2, 2] }), at(2, 3, 5, 5), at(4, 3, 1, 1)),
    linear((x, w) => o.Conv(x, w, null, { group: 2, pads: [1, 1, 1, 1] }), at(2, 4, 4, 4), at(6, 2, 3, 3)),
    linear((x, w) => o.Conv(x, w, null, { dilations: [2, 2], pads: [2, 2, 2, 2] }), at(1, 2, 6, 6), at(2, 2, 3, 3)),
    linear((x, w) => o.Conv(x, w, null, { pads: [0, 1, 2, 0] }), at(1, 2, 4, 5), at(2, 2, 3, 2)),
    linear((x, w) => o.Conv(x, w, null, { strides: [4, 4] }), at(2, 3, 8, 8), at(6, 3, 4, 4)),
  ],
  ConvTranspose: [
    linear(
      (x, w) => o.ConvTranspose(x, w, { strides: [2, 2], pads: [1, 1, 1, 1], output_padding: [1, 1] }),
      at(2, 3, 3, 4),
      at(3, 2, 3, 3),
    ),
    linear((x, w) => o.ConvTranspose(x, w), at(1, 2, 3, 3), at(2, 4, 2, 2)),
  ],
  MaxPool: [
    f32((x) => o.MaxPool(x, { kernel: [2, 2], strides: [2, 2] })[0], distinct(2, 2, 4, 4)),
    f32((x) => o.MaxPool(x, { kernel: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] })[0], distinct(1, 2, 5, 5)),
  ],
  AveragePool: [
    linear((x) => o.AveragePool(x, { kernel: [2, 2], strides: [2, 2] }), at(2, 3, 4, 4)),
    linear((x) => o.AveragePool(x, { kernel: [3, 3], pads: [1, 1, 1, 1] }), at(1, 2, 4, 4)),
    linear((x) => o.AveragePool(x, { kernel: [3, 3], strides: [2, 2] }), at(1, 1, 6, 6)),
  ],
  GlobalAveragePool: [linear((x) => o.GlobalAveragePool(x), at(2, 3, 4, 5))],

  // normalization
  LayerNormalization: [
    f32((x, s, b) => o.LayerNormalization(x, s, b)[0], at(2, 3, 5), at(5), at(5)),
    f32((x, s, b) => o.LayerNormalization(x, s, b, { axis: 1, epsilon: 1e-3 })[0], at(2, 3, 2), at(3, 2), at(3, 2)),
  ],
  InstanceNormalization: [
    f32((x, s, b) => o.InstanceNormalization(x, s, b), at(2, 3, 2, 4), at(3), at(3)),
    f32((x, s, b) => o.InstanceNormalization(x, s, b, { epsilon: 1e-2 }), at(1, 1, 5), at(1), at(1)),
  ],
  BatchNormalization: [
    f32(
      (x, s, b) => o.BatchNormalization(x, s, b, constant([3], [0.1, -0.4, 0.7]), constant([3], [0.5, 1, 2])),
      at(2, 3, 2, 2),
      at(3),
      at(3),
    ),
  ],
  BatchNormInternal: [
    f32((x, s, b) => o.BatchNormInternal(x, s, b)[0], at(3, 2, 3, 2), away(2), at(2)),
    f32((x, s, b) => o.BatchNormInternal(x, s, b)[0], at(6, 3), away(3), at(3)),
  ],

  // spatial
  Resize: [
    ...(["half_pixel", "align_corners", "asymmetric"] as const).flatMap((coordinate_transformation_mode) =>
      (["linear", "nearest"] as const).map((mode) =>
        linear((x) => o.Resize(x, { sizes: [2, 3, 7, 3] }, { mode, coordinate_transformation_mode }), at(2, 3, 4, 5)),
      ),
    ),
    ...(["round_prefer_floor", "round_prefer_ceil", "ceil"] as const).map((nearest_mode) =>
      linear((x) => o.Resize(x, { sizes: [1, 2, 6, 2] }, { nearest_mode }), at(1, 2, 3, 4)),
    ),
    linear(
      (x) => o.Resize(x, { scales: [1, 1, 2, 2] }, { coordinate_transformation_mode: "asymmetric" }),
      at(1, 2, 3, 2),
    ),
    linear((x) => o.Resize(x, { scales: [1, 1, 1.7, 0.6] }, { mode: "linear" }), at(1, 2, 3, 5)),
    linear(
      (x) => o.Resize(x, { sizes: [1, 1, 1, 4] }, { mode: "linear", coordinate_transformation_mode: "align_corners" }),
      at(1, 1, 3, 1),
    ),
    // halved: the triangle is twice as wide, the border repeated
    forward(
      (x) => o.Resize(o.Cast(x, "float32"), { sizes: [1, 1, 1, 4] }, { mode: "linear", antialias: 1 }),
      (x) =>
        [0, 2, 4, 6].map((i) => (x![Math.max(i - 1, 0)]! + 3 * x![i]! + 3 * x![i + 1]! + x![Math.min(i + 2, 7)]!) / 8),
      index(100, 1, 1, 1, 8),
    ),
  ],
  GridSample: [
    ...([0, 1] as const).flatMap((align_corners) =>
      (["zeros", "border"] as const).flatMap((padding_mode) => [
        linear(
          (x) => o.GridSample(x, constant([2, 4, 3, 2], scattered(48, -1.4, 1.4)), { padding_mode, align_corners }),
          at(2, 3, 4, 5),
        ),
        f32((x, grid) => o.GridSample(x, grid, { padding_mode, align_corners }), at(1, 2, 4, 6), {
          shape: [1, 2, 3, 2],
          low: 0.07,
          high: 0.15,
        }),
      ]),
    ),
    // past the last pixel's middle but within one pixel of it: partly outside
    f32((x, grid) => o.GridSample(x, grid), at(1, 2, 5, 5), { shape: [1, 1, 4, 2], low: 0.95, high: 1.05 }),
    f32((x, grid) => o.GridSample(x, grid, { padding_mode: "border" }), at(1, 2, 5, 5), {
      shape: [1, 1, 4, 2],
      low: 1.1,
      high: 1.3,
    }),
  ],
  RoiAlign: [
    ...(["half_pixel", "output_half_pixel"] as const).map((coordinate_transformation_mode) =>
      linear(
        (x) =>
          o.RoiAlign(x, boxes, constant([3], [1, 0, 1], "int64"), {
            output_height: 3,
            output_width: 2,
            sampling_ratio: 2,
            spatial_scale: 0.5,
            coordinate_transformation_mode,
          }),
        at(2, 3, 6, 5),
      ),
    ),
    linear(
      (x) =>
        o.RoiAlign(x, boxes, constant([3], [0, 0, 0], "int64"), {
          output_height: 1,
          output_width: 4,
          sampling_ratio: 1,
        }),
      at(1, 2, 9, 9),
    ),
  ],
  NonMaxSuppression: [
    forward(
      (b, s) =>
        o.ReduceSum(o.Cast(o.NonMaxSuppression(b, s, { max: 4, iouThreshold: 0.3, scoreThreshold: 0.1 }), "float32"), {
          axes: [0],
          keepdims: 0,
        }),
      (b, s) => [0, 1, 2].map((column) => suppressed(b!, s!).reduce((sum, row) => sum + row[column]!, 0)),
      { shape: [1, 9, 4], low: 0, high: 10 },
      { shape: [1, 2, 9], low: 0, high: 1 },
    ),
  ],
  NonZero: [
    forward(
      (x) => o.ReduceSum(o.Cast(o.NonZero(o.Greater(x, 0)), "float32"), { axes: [1], keepdims: 0 }),
      (x) => {
        const hits = x!.flatMap((v, i) => (v > 0 ? [[Math.floor(i / 4), i % 4]] : []));
        return [0, 1].map((axis) => hits.reduce((sum, hit) => sum + hit[axis]!, 0));
      },
      at(3, 4),
    ),
  ],
  GlobalMaxPool: [
    f32((x) => o.GlobalMaxPool(x), distinct(2, 3, 2, 3)),
    f32((x) => o.GlobalMaxPool(x), distinct(1, 1, 1, 4)),
  ],
} satisfies Record<OpName, Sample[]>;
