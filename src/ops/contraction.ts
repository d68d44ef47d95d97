/** Products and convolutions, with the pools that slide the same window. */
import { constant, rank, type Dim, type Type, type Value } from "../onnx/graph.js";
import { apply, deviceOf, op, type Vjp } from "./op.js";
import { broadcast, isNumber, product, sameDtypes, windowed } from "./infer.js";
import { Cast, Mul } from "./elementwise.js";
import { Concat, Expand, Pad, Reshape, ScatterElements, Slice, Split, Transpose } from "./movement.js";
import { ReduceMean, ReduceSum } from "./reduction.js";
import { unbroadcast } from "./unbroadcast.js";

/** The last two axes exchanged. */
export const transposed = (x: Value): Value => {
  const perm = x.shape.map((_, i) => i);
  perm.push(...perm.splice(-2).reverse());
  return Transpose(x, { perm });
};

/** y = a·b over the last two axes, the others broadcast    da = g·bᵀ, db = aᵀ·g */
export const MatMul = (a: Value, b: Value): Value => apply(matMul, [a, b])[0]!;
const matMul = op("MatMul", {
  infer: ([a, b]) => {
    if (rank(a!) < 2 || rank(b!) < 2) throw new Error("needs two operands of rank 2 or more");
    const [m, k] = a!.shape.slice(-2) as [Dim, Dim];
    const [k2, n] = b!.shape.slice(-2) as [Dim, Dim];
    if (k !== k2) throw new Error("needs equal inner dimensions");
    return [{ dtype: sameDtypes([a!, b!]), shape: [...broadcast(a!.shape.slice(0, -2), b!.shape.slice(0, -2)), m, n] }];
  },
  vjp: ([g], [a, b]) => {
    const da = unbroadcast(MatMul(g!, transposed(b!)), a!);
    // a weight shared by the whole batch: one product of flattened rows
    if (rank(b!) === 2 && rank(a!) > 2) {
      const [k, n] = b!.shape as [number, number];
      return [da, weightGradient(Reshape(a!, [-1, k]), Reshape(g!, [-1, n]), { transA: 1 })];
    }
    return [da, unbroadcast(MatMul(transposed(a!), g!), b!)];
  },
});

export interface GemmAttributes {
  alpha?: number;
  beta?: number;
  transA?: 0 | 1;
  transB?: 0 | 1;
}
/** y = α·A′B′ + β·c for matrices    dA′ = α·g·B′ᵀ, dB′ = α·A′ᵀ·g, dc = β·g */
export const Gemm = (
  a: Value,
  b: Value,
  c: Value | null = null,
  { alpha = 1, beta = 1, transA = 0, transB = 0 }: GemmAttributes = {},
): Value => apply(gemm, c ? [a, b, c] : [a, b], { alpha: { float: alpha }, beta: { float: beta }, transA, transB })[0]!;
const gemm = op("Gemm", {
  infer: ([a, b, c], { transA, transB }) => {
    if (rank(a!) !== 2 || rank(b!) !== 2) throw new Error("needs two matrices");
    const [m, k] = transA ? [a!.shape[1]!, a!.shape[0]!] : [a!.shape[0]!, a!.shape[1]!];
    const [k2, n] = transB ? [b!.shape[1]!, b!.shape[0]!] : [b!.shape[0]!, b!.shape[1]!];
    if (k !== k2) throw new Error(`needs equal inner dimensions (transA ${transA}, transB ${transB})`);
    if (c) broadcast([m, n], c.shape);
    return [{ dtype: sameDtypes([a!, b!]), shape: [m, n] }];
  },
  vjp: ([g], [a, b, c], _, attributes) => {
    const alpha = (attributes.alpha as { float: number }).float;
    const beta = (attributes.beta as { float: number }).float;
    const [tA, tB] = [attributes.transA as 0 | 1, attributes.transB as 0 | 1];
    const flip = (t: 0 | 1): 0 | 1 => (t ? 0 : 1);
    const da = tA
      ? Gemm(b!, g!, null, { alpha, transA: tB, transB: 1 })
      : Gemm(g!, b!, null, { alpha, transB: flip(tB) });
    const db = tB
      ? weightGradient(g!, a!, { alpha, transA: 1, transB: tA })
      : weightGradient(a!, g!, { alpha, transA: flip(tA) });
    return [da, db, c ? unbroadcast(beta === 1 ? g! : Mul(g!, beta), c) : null];
  },
});

/** A product as Gemm's, on the CPU without its `transA`. */
function weightGradient(a: Value, b: Value, { alpha = 1, transA = 0, transB = 0 }: GemmAttributes): Value {
  const slow = transA && !transB && deviceOf(a, b) === "cpu" && a.shape[0] !== 0;
  return slow ? overRows(a, b, alpha) : Gemm(a, b, null, { alpha, transA, transB });
}

/**
 * α·aᵀ·b of a [M,I] and b [M,O]. The CPU's Gemm copies an operand that is to be transposed for every 128 columns of the other: to transpose the
 * narrower one before is quicker (one thread, M 2080, ms: 768 × 192 8.6 → 7.4, 192 × 768 8.9 → 7.2, 576 × 192 6.7 → 5.7).
 */
const overRows = (a: Value, b: Value, alpha: number): Value =>
  (a.shape[1] as number) <= (b.shape[1] as number)
    ? Gemm(laidOutTransposed(a), b, null, { alpha })
    : laidOutTransposed(Gemm(laidOutTransposed(b), a, null, { alpha }));

/** A matrix transposed by way of three axes: the library folds a plain Transpose into the product. */
function laidOutTransposed(x: Value): Value {
  const [m, n] = x.shape as [number, number];
  return Reshape(Transpose(Reshape(x, [m, 1, n]), { perm: [1, 2, 0] }), [n, m]);
}

/** Two spatial axes. pads: [top, left, bottom, right]; default strides and dilations 1, pads 0, group 1. */
export interface Window {
  strides?: readonly [number, number];
  pads?: readonly [number, number, number, number];
  dilations?: readonly [number, number];
  group?: number;
}
type FullWindow = Required<Window> & { kernel_shape: readonly [number, number] };
const full = (kernel: readonly Dim[], w: Window): FullWindow => ({
  kernel_shape: kernel as unknown as [number, number],
  strides: w.strides ?? [1, 1],
  pads: w.pads ?? [0, 0, 0, 0],
  dilations: w.dilations ?? [1, 1],
  group: w.group ?? 1,
});
const slid = (x: Type, w: FullWindow): Dim[] =>
  [0, 1].map((i) =>
    windowed(x.shape[2 + i]!, w.kernel_shape[i]!, w.strides[i]!, w.pads[i]! + w.pads[i + 2]!, w.dilations[i]!),
  );
const asWindow = (attributes: object): FullWindow => attributes as FullWindow;

/**
 * y = w ⋆ x (+ b): x [N,C,H,W], w [O,C/group,kh,kw], b [O].
 * dx = ConvTranspose(g, w), dw = (patches of x)ᵀ·g as one product, db = Σ g
 */
export const Conv = (x: Value, w: Value, b: Value | null = null, window: Window = {}): Value =>
  apply(conv, b ? [x, w, b] : [x, w], { ...full(w.shape.slice(2), window) })[0]!;
const conv = op("Conv", {
  infer: ([x, w], attributes) => {
    const a = asWindow(attributes);
    const channels = (w!.shape[1] as number) * a.group;
    if (x!.shape.length !== 4 || x!.shape[1] !== channels) throw new Error(`needs input [N,${channels},H,W]`);
    return [{ dtype: sameDtypes([x!, w!]), shape: [x!.shape[0]!, w!.shape[0]!, ...slid(x!, a)] }];
  },
  vjp: ([g], [x, w, b], _, attributes) => {
    const a = asWindow(attributes);
    return [
      convInputGradient(g!, x!, w!, a),
      convWeightGradient(g!, x!, w!, a),
      b ? ReduceSum(g!, { axes: [0, 2, 3], keepdims: 0 }) : null,
    ];
  },
  fused: ([g], [x, w, b], _, attributes) => {
    const [dx, dw, db] = apply(convGrad, [g!, x!, w!], attributes);
    const a = asWindow(attributes);
    return [turns(a) ? convInputGradient(g!, x!, w!, a) : dx!, dw!, b ? db! : null];
  },
});
/** g, x, w → dx, dw, db: what is not read is not computed. */
export const convGrad = op("ConvGrad", {
  domain: "com.microsoft",
  training: true,
  infer: ([, x, w]) => [x!, w!, { dtype: w!.dtype, shape: [w!.shape[0]!] }],
  vjp: "none",
});

/** Without stride, dilation and groups dx is itself a convolution, with the kernel turned: about twice as fast as ConvGrad's dX. */
const turns = ({ strides, dilations, group, pads, kernel_shape: [kh, kw] }: FullWindow): boolean =>
  strides.every((v) => v === 1) &&
  dilations.every((v) => v === 1) &&
  group === 1 &&
  pads[0] < kh &&
  pads[2] < kh &&
  pads[1] < kw &&
  pads[3] < kw;

/** w [O,C,kh,kw] turned by half a turn, as [C,O,kh,kw] */
export function turned(w: Value): Value {
  const swapped = Transpose(w, { perm: [1, 0, 2, 3] });
  if (w.shape[2] === 1 && w.shape[3] === 1) return swapped;
  return Slice(swapped, { starts: [-1, -1], ends: [-(2 ** 31), -(2 ** 31)], axes: [2, 3], steps: [-1, -1] });
}

/** dx of a convolution; output_padding restores the rows that the stride skipped. */
function convInputGradient(g: Value, x: Type, w: Value, a: FullWindow): Value {
  if (turns(a)) {
    const [kh, kw] = a.kernel_shape;
    const [top, left, bottom, right] = a.pads;
    return Conv(g, turned(w), null, { pads: [kh - 1 - top, kw - 1 - left, kh - 1 - bottom, kw - 1 - right] });
  }
  const skipped = [0, 1].map((i) => {
    const span =
      (x.shape[2 + i] as number) + a.pads[i]! + a.pads[i + 2]! - a.dilations[i]! * (a.kernel_shape[i]! - 1) - 1;
    return span % a.strides[i]!;
  });
  return ConvTranspose(g, w, { ...a, output_padding: skipped as [number, number] });
}

/** dw [O,C/group,kh,kw]: gᵀ [O, N·L] × patches [N·L, kh·kw·C], one product a group */
function convWeightGradient(g: Value, x: Value, w: Type, a: FullWindow): Value {
  const [channels, outputs] = [(x.shape[1] as number) / a.group, (g.shape[1] as number) / a.group];
  const xs = a.group === 1 ? [x] : Split(x, Array<number>(a.group).fill(channels), { axis: 1 });
  const gs = a.group === 1 ? [g] : Split(g, Array<number>(a.group).fill(outputs), { axis: 1 });
  return Concat(
    xs.map((v, i) => oneGroup(gs[i]!, v, w, a)),
    { axis: 0 },
  );
}
function oneGroup(g: Value, x: Value, w: Type, a: FullWindow): Value {
  const [c, o, kh, kw] = [x.shape[1] as number, g.shape[1] as number, w.shape[2] as number, w.shape[3] as number];
  const [ho, wo] = g.shape.slice(2) as [number, number];
  const [top, left, bottom, right] = a.pads;
  const nhwc = Transpose(Pad(x, [0, 0, top, left, 0, 0, bottom, right]), { perm: [0, 2, 3, 1] });
  const patches: Value[] = [];
  for (let i = 0; i < kh; i++)
    for (let j = 0; j < kw; j++) {
      const starts = [i * a.dilations[0], j * a.dilations[1]];
      const ends = [starts[0]! + (ho - 1) * a.strides[0] + 1, starts[1]! + (wo - 1) * a.strides[1] + 1];
      patches.push(Slice(nhwc, { starts, ends, axes: [1, 2], steps: [...a.strides] }));
    }
  const columns = Reshape(Concat(patches, { axis: 3 }), [-1, kh * kw * c]);
  const rows = Reshape(Transpose(g, { perm: [1, 0, 2, 3] }), [o, -1]);
  return Transpose(Reshape(MatMul(rows, columns), [o, kh, kw, c]), { perm: [0, 3, 1, 2] });
}

/** The transpose of Conv: x [N,C,H,W], w [C,O/group,kh,kw]    dx = Conv(g, w), dw as Conv's with x and g exchanged */
export const ConvTranspose = (
  x: Value,
  w: Value,
  window: Window & { output_padding?: readonly [number, number] } = {},
): Value => {
  const { output_padding = [0, 0], ...rest } = window;
  return apply(convTranspose, [x, w], { ...full(w.shape.slice(2), rest), output_padding: [...output_padding] })[0]!;
};
const convTranspose = op("ConvTranspose", {
  infer: ([x, w], attributes) => {
    const a = asWindow(attributes);
    const extra = attributes.output_padding as number[];
    if (x!.shape[1] !== w!.shape[0]) throw new Error(`needs input [N,${w!.shape[0]},H,W]`);
    const spatial = [0, 1].map((i) => {
      const d = x!.shape[2 + i]!;
      if (!isNumber(d)) return `up(${d})`;
      return (
        (d - 1) * a.strides[i]! -
        a.pads[i]! -
        a.pads[i + 2]! +
        a.dilations[i]! * (a.kernel_shape[i]! - 1) +
        1 +
        extra[i]!
      );
    });
    return [{ dtype: sameDtypes([x!, w!]), shape: [x!.shape[0]!, (w!.shape[1] as number) * a.group, ...spatial] }];
  },
  vjp: ([g], [x, w], _, attributes) => {
    const { strides, pads, dilations, group } = asWindow(attributes);
    return [
      Conv(g!, w!, null, { strides, pads, dilations, group }),
      convWeightGradient(x!, g!, w!, asWindow(attributes)),
    ];
  },
});

export interface Pooling {
  kernel: readonly [number, number];
  strides?: readonly [number, number];
  pads?: readonly [number, number, number, number];
}
const poolWindow = ({ kernel, ...w }: Pooling) => {
  const { kernel_shape, strides, pads } = full(kernel, w);
  return { kernel_shape, strides, pads };
};
const pooled = (x: Type, attributes: object): Type => ({
  dtype: x.dtype,
  shape: [...x.shape.slice(0, 2), ...slid(x, { ...asWindow(attributes), dilations: [1, 1], group: 1 })],
});

/** Largest of each window → [y, flat indices over N·C·H·W (int64)]    dx = g added at the indices */
export const MaxPool = (x: Value, pooling: Pooling): [Value, Value] =>
  apply(maxPool, [x], poolWindow(pooling)) as unknown as [Value, Value];
const scattered: Vjp = ([given], [x], [, indices]) => {
  const g = given!.dtype === "float16" ? Cast(given!, "float32") : given!; // the CPU adds no 16 bits there
  const zeros = Expand(constant([], 0, g.dtype), [product(x!.shape as number[])]);
  const dx = ScatterElements(zeros, Reshape(indices!, [-1]), Reshape(g, [-1]), { axis: 0, reduction: "add" });
  return [Cast(Reshape(dx, x!.shape as number[]), given!.dtype)];
};
const maxPool = op("MaxPool", {
  infer: ([x], attributes) => {
    const y = pooled(x!, attributes);
    return [y, { dtype: "int64", shape: y.shape }];
  },
  vjp: scattered,
  // in float32 alone: the library puts casts around the kernel for 16 bits, loses the shape of dx there, and the process with it
  fused: (g, inputs, outputs, attributes) =>
    inputs[0]!.dtype === "float32"
      ? [apply(maxPoolGrad(inputs[0]!), [g[0]!, outputs[1]!], attributes)[0]!]
      : scattered(g, inputs, outputs, attributes),
  fusedOn: ["cpu"],
});
/** dx takes its shape from the output's declared type, so the op carries it. */
const maxPoolGrad = (x: Type) =>
  op("MaxPoolGrad", { training: true, infer: () => [{ dtype: x.dtype, shape: x.shape }], vjp: "none" });

/** Mean of each window, padding counted    dx = g/k² spread: a depthwise ConvTranspose */
export const AveragePool = (x: Value, pooling: Pooling): Value =>
  apply(averagePool, [x], { ...poolWindow(pooling), count_include_pad: 1 })[0]!;
const averagePoolVjp: Vjp = ([g], [x], _, attributes) => {
  const a = asWindow(attributes);
  const channels = x!.shape[1] as number;
  const kernel = Expand(constant([], 1 / product(a.kernel_shape), g!.dtype), [channels, 1, ...a.kernel_shape]);
  return [convInputGradient(g!, x!, kernel, { ...a, dilations: [1, 1], group: channels })];
};
const averagePool = op("AveragePool", { infer: ([x], attributes) => [pooled(x!, attributes)], vjp: averagePoolVjp });

/** Mean over H and W: [N,C,H,W] → [N,C,1,1]    dx = g/(H·W) spread */
export const GlobalAveragePool = (x: Value): Value => apply(globalAveragePool, [x])[0]!;
const globalAveragePool = op("GlobalAveragePool", {
  infer: ([x]) => [{ dtype: x!.dtype, shape: [...x!.shape.slice(0, 2), 1, 1] }],
  vjp: ([g], [x]) => [Expand(Mul(g!, 1 / product(x!.shape.slice(2) as number[])), x!.shape as number[])],
});

/** Mean over H and W without the spatial axes: [N,C,H,W] → [N,C] */
export const spatialMean = (x: Value): Value => ReduceMean(x, { axes: [2, 3], keepdims: 0 });
