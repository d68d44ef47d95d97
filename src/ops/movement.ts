/** Ops that move values without changing them: shapes, slices, gathers, scatters. */
import { constant, dimProduct, int64s, type Dim, type Shape as Dims, type Type, type Value } from "../onnx/graph.js";
import { apply, op } from "./op.js";
import { broadcast, isNumber, normalizeAxis, product, sameDtypes } from "./infer.js";
import { ReduceSum } from "./reduction.js";
import { unbroadcast } from "./unbroadcast.js";

/** A shape to give: numbers as in ONNX (0 copies, −1 infers), or an int64 value known only when the graph runs. */
type ShapeLike = readonly number[] | Value;
const shapeValue = (s: ShapeLike): Value => (Array.isArray(s) ? int64s(s as number[]) : (s as Value));
const numbersOf = (v: Value | undefined): number[] | undefined => v?.constant && [...v.constant.data].map(Number);
const int64Axes = (axes: readonly number[], rank: number): Value => int64s(axes.map((a) => normalizeAxis(a, rank)));
const sum = (ds: readonly Dim[]): Dim => (ds.every(isNumber) ? ds.reduce((a, b) => a + b, 0) : ds.join("+"));
const zerosOf = (x: Type): Value => Expand(constant([], 0, x.dtype), x.shape as number[]);

/** y = x reshaped    dx = g reshaped back; the shape has no gradient */
export const Reshape = (x: Value, shape: ShapeLike): Value => apply(reshape, [x, shapeValue(shape)])[0]!;
const reshape = op("Reshape", {
  infer: ([x, s], _, [, value]) => [
    { dtype: x!.dtype, shape: shapeTaken(value) ?? reshaped(x!.shape, numbersOf(value), s!) },
  ],
  vjp: ([g], [x]) => [Reshape(g!, x!.shape as number[]), null],
});

/**
 * x without the axes of length 1 at its end, [O,C,1,1] → [O,C]: a view. The runtime multiplies by a scalar element by element where the
 * last axis has length 1: 45 ms for a weight of [2048,2048,1,1], 1 ms for [2048,2048].
 */
export function trimmed(x: Value): Value {
  const kept = x.shape.findLastIndex((d) => d !== 1) + 1;
  return kept === x.shape.length ? x : Reshape(x, x.shape.slice(0, kept) as number[]);
}
/** The reverse: v with the shape of x. */
export const untrimmed = (v: Value, x: Type): Value =>
  v.shape.length === x.shape.length ? v : Reshape(v, x.shape as number[]);

/** The shape of v where a shape value is Shape(v). */
export const shapeTaken = (value: Value | undefined): Dims | undefined =>
  value?.node?.op === shapeOf ? value.node.inputs[0]!.shape : undefined;

function reshaped(from: Dims, to: number[] | undefined, type: Type): Dim[] {
  if (!to) return Array.from({ length: type.shape[0] as number }, (_, i) => `reshaped${i}`);
  const copied = to.map((d, i) => (d === 0 ? from[i]! : d));
  if (!copied.includes(-1)) {
    if (from.every(isNumber) && copied.every(isNumber) && product(from) !== product(copied))
      throw new Error(`cannot reshape [${from.join(",")}] into [${to.join(",")}]`);
    return copied;
  }
  // What −1 stands for: the dims that no other dim of the result accounts for.
  const left = [...from];
  for (const d of copied) {
    const i = typeof d === "string" ? left.indexOf(d) : -1;
    if (i >= 0) left.splice(i, 1);
  }
  const inferred = dimProduct(left, product(copied.filter((d): d is number => isNumber(d) && d !== -1)));
  if (isNumber(inferred) && !Number.isInteger(inferred))
    throw new Error(`cannot reshape [${from.join(",")}] into [${to.join(",")}]`);
  return copied.map((d) => (d === -1 ? inferred : d));
}

/** y = x with axes permuted (default reversed)    dx = g permuted back */
export const Transpose = (x: Value, { perm }: { perm?: readonly number[] } = {}): Value =>
  apply(transpose, [x], { perm: perm ?? x.shape.map((_, i) => x.shape.length - 1 - i) })[0]!;
const transpose = op("Transpose", {
  infer: ([x], { perm }) => {
    const p = perm as number[];
    if (p.length !== x!.shape.length || new Set(p).size !== p.length)
      throw new Error(`needs perm to be a permutation of ${x!.shape.length} axes, got [${p.join(",")}]`);
    return [{ dtype: x!.dtype, shape: p.map((a) => x!.shape[a]!) }];
  },
  vjp: ([g], _, __, { perm }) => {
    const p = perm as number[];
    return [Transpose(g!, { perm: p.map((_, i) => p.indexOf(i)) })];
  },
});

/** y = xs joined along axis    dxs = g split */
export const Concat = (xs: readonly Value[], { axis }: { axis: number }): Value =>
  xs.length === 1 ? xs[0]! : apply(concat, xs, { axis: normalizeAxis(axis, xs[0]!.shape.length) })[0]!;
const concat = op("Concat", {
  infer: (xs, { axis }) => {
    const first = xs[0]!.shape;
    const odd = xs.find((x) => x.shape.length !== first.length || x.shape.some((d, i) => i !== axis && d !== first[i]));
    if (odd) throw new Error(`needs equal dims but on axis ${axis}`);
    const joined = sum(xs.map((x) => x.shape[axis as number]!));
    return [{ dtype: sameDtypes(xs), shape: first.map((d, i) => (i === axis ? joined : d)) }];
  },
  vjp: ([g], xs, _, { axis }) =>
    Split(
      g!,
      xs.map((x) => x.shape[axis as number] as number),
      { axis: axis as number },
    ),
});

/** x cut along axis into pieces of the given lengths    dx = gs joined */
export const Split = (x: Value, lengths: readonly number[], { axis }: { axis: number }): Value[] => [
  ...apply(split, [x, int64s(lengths)], { axis: normalizeAxis(axis, x.shape.length) }),
];
const split = op("Split", {
  differentiable: "all",
  writesAll: true,
  infer: ([x], { axis }, [, lengths]) => {
    const ls = numbersOf(lengths)!;
    const length = x!.shape[axis as number]!;
    if (isNumber(length) && ls.reduce((a, b) => a + b, 0) !== length)
      throw new Error(`needs lengths that add up to ${length}, got [${ls.join(",")}]`);
    return ls.map((l) => ({ dtype: x!.dtype, shape: x!.shape.map((d, i) => (i === axis ? l : d)) }));
  },
  vjp: (gs, _, outputs, { axis }) => [
    Concat(
      outputs.map((y, i) => gs[i] ?? zerosOf(y)),
      { axis: axis as number },
    ),
    null,
  ],
});

export interface Slicing {
  starts: readonly number[];
  ends: readonly number[];
  axes: readonly number[];
  steps?: readonly number[];
}
/** y = x[starts:ends:steps] along axes    dx = g put back among zeros */
export const Slice = (x: Value, { starts, ends, axes, steps = axes.map(() => 1) }: Slicing): Value =>
  apply(slice, [x, int64s(starts), int64s(ends), int64Axes(axes, x.shape.length), int64s(steps)])[0]!;
const slice = op("Slice", {
  infer: ([x], _, [, s, e, a, t]) => {
    const [starts, ends, axes, steps] = [s, e, a, t].map((v) => numbersOf(v)!) as [
      number[],
      number[],
      number[],
      number[],
    ];
    const shape = [...x!.shape];
    axes.forEach((axis, i) => {
      const length = shape[axis]!;
      if (isNumber(length)) shape[axis] = sliceLength(length, starts[i]!, ends[i]!, steps[i]!);
      else if (starts[i]! >= 0 && ends[i]! >= 0 && ends[i]! < 2 ** 31)
        shape[axis] = Math.ceil((ends[i]! - starts[i]!) / steps[i]!);
      else shape[axis] = `${length}[${starts[i]}:${ends[i]}:${steps[i]}]`;
    });
    return [{ dtype: x!.dtype, shape }];
  },
  vjp: ([g], [x, s, , a, t]) => {
    const [starts, axes, steps] = [s, a, t].map((v) => numbersOf(v)!) as [number[], number[], number[]];
    if (steps.every((v) => v === 1)) {
      const before = x!.shape.map(() => 0);
      axes.forEach((axis, i) => (before[axis] = wrap(starts[i]!, x!.shape[axis] as number)));
      const after = x!.shape.map((d, i) => (d as number) - before[i]! - (g!.shape[i] as number));
      return [Pad(g!, [...before, ...after]), null, null, null, null];
    }
    return [strided(g!, x!, starts, axes, steps), null, null, null, null];
  },
});
const wrap = (i: number, length: number): number => Math.min(Math.max(i < 0 ? i + length : i, 0), length);
function sliceLength(length: number, start: number, end: number, step: number): number {
  const clamp = (i: number) =>
    Math.min(Math.max(i < 0 ? i + length : i, step < 0 ? -1 : 0), step < 0 ? length - 1 : length);
  return Math.max(0, Math.ceil((clamp(end) - clamp(start)) / step));
}
/** The cotangent of a strided slice put back, one axis after the other; a negative step is a positive one on the reversed axis. */
function strided(g: Value, x: Type, starts: number[], axes: number[], steps: number[]): Value {
  return axes.reduceRight((v, axis, i) => {
    const [length, n, step] = [x.shape[axis] as number, v.shape[axis] as number, steps[i]!];
    if (n === 0) return Expand(constant([], 0, g.dtype), replaced(v, axis, length));
    const first = step < 0 ? Math.min(wrap(starts[i]!, length), length - 1) : wrap(starts[i]!, length);
    const lowest = Math.min(first, first + (n - 1) * step);
    return padded(spread(step < 0 ? reversed(v, axis) : v, axis, Math.abs(step)), axis, lowest, length);
  }, g);
}
const replaced = (v: Type, axis: number, length: number): number[] =>
  v.shape.map((d, i) => (i === axis ? length : (d as number)));
const reversed = (v: Value, axis: number): Value =>
  Slice(v, { starts: [-1], ends: [-(2 ** 31)], axes: [axis], steps: [-1] });
/** `step` − 1 zeros after each element along the axis */
function spread(v: Value, axis: number, step: number): Value {
  if (step === 1) return v;
  const column = Unsqueeze(v, [axis + 1]);
  const after = column.shape.map((_, i) => (i === axis + 1 ? step - 1 : 0));
  const zeros = column.shape.map(() => 0);
  return Reshape(Pad(column, [...zeros, ...after]), replaced(v, axis, (v.shape[axis] as number) * step));
}
/** v from `start` on within `length`, zeros before and after; what is beyond is cut off (zeros, where it comes from spread) */
const padded = (v: Value, axis: number, start: number, length: number): Value => {
  const before = v.shape.map((_, i) => (i === axis ? start : 0));
  const after = v.shape.map((d, i) => (i === axis ? length - start - (d as number) : 0));
  return Pad(v, [...before, ...after]);
};

/** y = rows of x (along axis) at indices    dx = g added up at the indices */
export const Gather = (x: Value, indices: Value, { axis = 0 }: { axis?: number } = {}): Value =>
  apply(gather, [x, indices], { axis: normalizeAxis(axis, x.shape.length) })[0]!;
const gather = op("Gather", {
  infer: ([x, indices], { axis }) => {
    const a = axis as number;
    return [{ dtype: x!.dtype, shape: [...x!.shape.slice(0, a), ...indices!.shape, ...x!.shape.slice(a + 1)] }];
  },
  vjp: ([g], [x, indices], _, { axis }) => {
    // indices flattened to one axis, brought to the front, rows added into zeros
    const a = axis as number;
    const n = product(indices!.shape as number[]);
    const length = x!.shape[a] as number;
    const outer = product(x!.shape.slice(0, a) as number[]);
    const inner = product(x!.shape.slice(a + 1) as number[]);
    const rows = Reshape(Transpose(Reshape(g!, [outer, n, inner]), { perm: [1, 0, 2] }), [n, outer * inner]);
    const added = ScatterND(
      zerosOf({ dtype: g!.dtype, shape: [length, outer * inner] }),
      Reshape(indices!, [n, 1]),
      rows,
      { reduction: "add" },
    );
    const dx = Transpose(Reshape(added, [length, outer, inner]), { perm: [1, 0, 2] });
    return [Reshape(dx, x!.shape as number[]), null];
  },
  fused: ([g], [x, indices], _, { axis }) => [
    apply(gatherGrad, [int64s(x!.shape as number[]), indices!, g!], { axis })[0]!,
    null,
  ],
});
const gatherGrad = op("GatherGrad", {
  domain: "com.microsoft",
  training: true,
  infer: ([, , g], _, [shape]) => [{ dtype: g!.dtype, shape: numbersOf(shape)! }],
  vjp: "none",
});

/** y[i][j] = x[i][indices[i][j]] along axis    dx = g added at the indices */
export const GatherElements = (x: Value, indices: Value, { axis = 0 }: { axis?: number } = {}): Value =>
  apply(gatherElements, [x, indices], { axis: normalizeAxis(axis, x.shape.length) })[0]!;
const gatherElements = op("GatherElements", {
  infer: ([x, indices]) => {
    if (x!.shape.length !== indices!.shape.length) throw new Error("needs data and indices of one rank");
    return [{ dtype: x!.dtype, shape: indices!.shape }];
  },
  vjp: ([g], [x, indices], _, { axis }) => [
    ScatterElements(zerosOf(x!), indices!, g!, { axis: axis as number, reduction: "add" }),
    null,
  ],
});

/** y = x at index tuples (last axis of indices)    dx = g added at the tuples */
export const GatherND = (x: Value, indices: Value): Value => apply(gatherND, [x, indices])[0]!;
const gatherND = op("GatherND", {
  infer: ([x, indices]) => {
    const depth = indices!.shape.at(-1) as number;
    return [{ dtype: x!.dtype, shape: [...indices!.shape.slice(0, -1), ...x!.shape.slice(depth)] }];
  },
  vjp: ([g], [x, indices]) => [ScatterND(zerosOf(x!), indices!, g!, { reduction: "add" }), null],
});

export type Scattering = "none" | "add";
/** y = x with updates set (or added) at index tuples    dx = g with those places zeroed (or g), dupdates = g at the tuples */
export const ScatterND = (x: Value, indices: Value, updates: Value, { reduction = "none" as Scattering } = {}): Value =>
  apply(scatterND, [x, indices, updates], { reduction })[0]!;
const scatterND = op("ScatterND", {
  infer: ([x, , updates]) => [{ dtype: sameDtypes([x!, updates!]), shape: x!.shape }],
  vjp: ([g], [, indices, updates], _, { reduction }) => [
    reduction === "add" ? g! : ScatterND(g!, indices!, zerosOf(updates!)),
    null,
    GatherND(g!, indices!),
  ],
});

/** y = x with updates set (or added) at indices along axis    dx = g with those places zeroed (or g), dupdates = g there */
export const ScatterElements = (
  x: Value,
  indices: Value,
  updates: Value,
  { axis = 0, reduction = "none" }: { axis?: number; reduction?: Scattering } = {},
): Value => apply(scatterElements, [x, indices, updates], { axis: normalizeAxis(axis, x.shape.length), reduction })[0]!;
const scatterElements = op("ScatterElements", {
  infer: ([x, , updates]) => [{ dtype: sameDtypes([x!, updates!]), shape: x!.shape }],
  vjp: ([g], [, indices, updates], _, { axis, reduction }) => [
    reduction === "add" ? g! : ScatterElements(g!, indices!, zerosOf(updates!), { axis: axis as number }),
    null,
    GatherElements(g!, indices!, { axis: axis as number }),
  ],
});

/** y = x broadcast to shape    dx = g summed back */
export const Expand = (x: Value, shape: ShapeLike): Value => {
  const known = Array.isArray(shape) ? (shape as number[]) : numbersOf(shape as Value);
  if (known && known.length === x.shape.length && known.every((d, i) => d === x.shape[i])) return x;
  return apply(expand, [x, shapeValue(shape)])[0]!;
};
const expand = op("Expand", {
  infer: ([x, s], _, [, value]) => {
    const to = numbersOf(value) ?? Array.from({ length: s!.shape[0] as number }, (_, i) => `expanded${i}`);
    return [{ dtype: x!.dtype, shape: to.every(isNumber) ? broadcast(x!.shape, to) : to }];
  },
  vjp: ([g], [x]) => [unbroadcast(g!, x!), null],
});

/** y = x without the axes of length 1    dx = g with them */
export const Squeeze = (x: Value, axes: readonly number[]): Value =>
  apply(squeeze, [x, int64Axes(axes, x.shape.length)])[0]!;
const squeeze = op("Squeeze", {
  infer: ([x], _, [, axes]) => {
    const gone = numbersOf(axes)!;
    const long = gone.find((a) => x!.shape[a] !== 1);
    if (long !== undefined) throw new Error(`needs length 1 on axis ${long}, got ${x!.shape[long]}`);
    return [{ dtype: x!.dtype, shape: x!.shape.filter((_, i) => !gone.includes(i)) }];
  },
  vjp: ([g], [, axes]) => [Unsqueeze(g!, numbersOf(axes)!), null],
});

/** y = x with axes of length 1 put in    dx = g without them */
export const Unsqueeze = (x: Value, axes: readonly number[]): Value =>
  apply(unsqueeze, [x, int64Axes(axes, x.shape.length + axes.length)])[0]!;
const unsqueeze = op("Unsqueeze", {
  infer: ([x], _, [, axes]) => {
    const added = numbersOf(axes)!;
    const left = [...x!.shape];
    const shape = Array.from({ length: left.length + added.length }, (_, i) => (added.includes(i) ? 1 : left.shift()!));
    return [{ dtype: x!.dtype, shape }];
  },
  vjp: ([g], [, axes]) => [Squeeze(g!, numbersOf(axes)!), null],
});

/** y = x padded: all begins, then all ends; constant zero, edge or reflect    dx = g cropped (constant mode) */
export const Pad = (
  x: Value,
  pads: readonly number[],
  { mode = "constant" as "constant" | "edge" | "reflect" } = {},
): Value => (pads.every((p) => p === 0) ? x : apply(pad, [x, int64s(pads)], { mode })[0]!);
const pad = op("Pad", {
  infer: ([x], _, [, pads]) => {
    const ps = numbersOf(pads)!;
    const n = x!.shape.length;
    if (ps.length !== 2 * n) throw new Error(`needs ${2 * n} pads, got ${ps.length}`);
    return [
      {
        dtype: x!.dtype,
        shape: x!.shape.map((d, i) => (ps[i]! + ps[i + n]! === 0 ? d : sum([d, ps[i]! + ps[i + n]!]))),
      },
    ];
  },
  vjp: ([g], [x, pads], _, { mode }) => {
    if (mode !== "constant") throw new Error(`Pad has no gradient in mode "${String(mode)}"; only constant has.`);
    const begins = numbersOf(pads)!.slice(0, x!.shape.length);
    const ends = begins.map((b, i) => b + (x!.shape[i] as number));
    return [Slice(g!, { starts: begins, ends, axes: begins.map((_, i) => i) }), null];
  },
});

/** y = x repeated along each axis    dx = g summed over the repeats */
export const Tile = (x: Value, repeats: readonly number[]): Value => apply(tile, [x, int64s(repeats)])[0]!;
const tile = op("Tile", {
  infer: ([x], _, [, repeats]) => {
    const rs = numbersOf(repeats)!;
    return [
      {
        dtype: x!.dtype,
        shape: x!.shape.map((d, i) => dimProduct([d, rs[i]!])),
      },
    ];
  },
  vjp: ([g], [x, repeats]) => {
    const split = numbersOf(repeats)!.flatMap((r, i) => [r, x!.shape[i] as number]);
    const folded = Reshape(g!, split);
    const axes = x!.shape.map((_, i) => 2 * i);
    return [Reshape(ReduceSum(folded, { axes, keepdims: 0 }), x!.shape as number[]), null];
  },
});

/** The shape of x when the graph runs, int64. Constant to the gradient. */
export const Shape = (x: Value): Value => apply(shapeOf, [x])[0]!;
const shapeOf = op("Shape", { infer: ([x]) => [{ dtype: "int64", shape: [x!.shape.length] }], vjp: "zero" });

/** One-hot rows along a new axis (default last), as dtype of `values` [off, on]. Constant to the gradient. */
export const OneHot = (indices: Value, depth: number, dtype: Type["dtype"] = "float32", { axis = -1 } = {}): Value =>
  apply(oneHot, [indices, int64s([depth]), constant([2], [0, 1], dtype)], { axis })[0]!;
const oneHot = op("OneHot", {
  infer: ([indices, , values], { axis }, [, depth]) => {
    const shape = [...indices!.shape];
    shape.splice(normalizeAxis(axis as number, shape.length + 1), 0, numbersOf(depth)![0]!);
    return [{ dtype: values!.dtype, shape }];
  },
  vjp: "zero",
});
