/** What a graph computes about shapes, computed while it is read: small tensors of numbers, a symbol standing for a dim that is open. */
import { constantOf, dimProduct, type Dim, type Value } from "./graph.js";
import type { ReadAttribute } from "./model.js";
import { sizeOf, tensor, type DType, type Tensor } from "../tensor.js";

export interface Known {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly dims: readonly Dim[];
}
type Attributes = Readonly<Record<string, ReadAttribute | undefined>>;

/** Tensors of more elements than this are data, not shapes. */
const largest = 64;

export const knownOf = ({ constant: c }: Value): Known | undefined =>
  c && c.data.length <= largest
    ? { dtype: c.dtype, shape: c.shape, dims: Array.from(c.data as ArrayLike<number | bigint>, exactly) }
    : undefined;

/** Exporters write "to the end" as the largest int64, which no number holds. */
const exactly = (v: number | bigint): number =>
  typeof v === "number" ? v : Math.min(Math.max(Number(v), Number.MIN_SAFE_INTEGER), Number.MAX_SAFE_INTEGER);

/** The constant of a known value without symbols. */
export const constantKnown = ({ dtype, shape, dims }: Known): Value | undefined =>
  dims.every((d) => typeof d === "number") ? constantOf(tensor(dtype, shape, dims)) : undefined;

/**
 * The result of an op on known values (null: left out); undefined where this is not such an op, or a value is not known. `x` is the
 * first input, for Shape.
 */
export function folded(
  type: string,
  x: Value | null,
  inputs: readonly (Known | null | undefined)[],
  a: Attributes,
): Known | undefined {
  if (type === "Shape" && x)
    return ofDims(x.shape.slice((a.start as number) ?? 0, (a.end as number) ?? x.shape.length));
  if (type === "Constant") return constantAttribute(a);
  const rule = rules[type];
  if (!rule || inputs.length === 0 || inputs.includes(undefined)) return undefined;
  return rule(inputs as Known[], a);
}

const ofDims = (dims: readonly Dim[]): Known => ({ dtype: "int64", shape: [dims.length], dims });
const numbers = (k: Known): number[] =>
  k.dims.map((d) => {
    if (typeof d !== "number") throw new Error(`it computes with the open dim ${d}; give the image a fixed size`);
    return d;
  });

function constantAttribute(a: Attributes): Known | undefined {
  const { value, value_float: float, value_int: int, value_floats: floats, value_ints: ints } = a;
  if (value) return knownOf(constantOf(value as Tensor));
  const list = (floats ?? ints) as readonly number[] | undefined;
  const dtype: DType = float !== undefined || floats ? "float32" : "int64";
  return { dtype, shape: list ? [list.length] : [], dims: list ?? [(float ?? int) as number] };
}

/** Dims are never negative, so an open one differs from −1, by which exporters mark "as it is". */
function equal(a: Dim, b: Dim): boolean {
  const open = [a, b].find((d) => typeof d === "string");
  if (a === b || open === undefined) return a === b;
  if ([a, b].some((d) => typeof d === "number" && d < 0)) return false;
  throw new Error(`it asks whether the open dim ${open} is ${a === open ? b : a}; give the image a fixed size`);
}

/** The entries at some places along one axis. */
function along({ dtype, shape, dims }: Known, axis: number, places: readonly number[]): Known {
  const [n, inner] = [shape[axis]!, sizeOf(shape.slice(axis + 1))];
  const blocks = Array.from({ length: sizeOf(shape.slice(0, axis)) }, (_, b) => b * n);
  const taken = blocks.flatMap((b) => places.flatMap((p) => dims.slice((b + p) * inner, (b + p + 1) * inner)));
  return { dtype, shape: shape.with(axis, places.length), dims: taken };
}

/** The places of a slice of n entries, as ONNX counts them: negative from the end, out of bounds to the bounds. */
function sliced(n: number, start: number, end: number, step: number): number[] {
  const bounded = (v: number): number => {
    const from = v < 0 ? v + n : v;
    return step > 0 ? Math.min(Math.max(from, 0), n) : Math.min(Math.max(from, -1), n - 1);
  };
  const places: number[] = [];
  for (let i = bounded(start); step > 0 ? i < bounded(end) : i > bounded(end); i += step) places.push(i);
  return places;
}

/** Two values of equal length, or one of length 1, put together number by number. */
const pairwise =
  (f: (a: number, b: number, dtype: DType) => number, dtype?: DType) =>
  ([a, b]: Known[]): Known => {
    const longer = a!.shape.length > b!.shape.length || a!.dims.length > b!.dims.length ? a! : b!;
    const [x, y] = [numbers(a!), numbers(b!)];
    const at = (v: number[], i: number): number => (v.length === 1 ? v[0]! : v[i]!);
    return {
      dtype: dtype ?? a!.dtype,
      shape: longer.shape,
      dims: longer.dims.map((_, i) => f(at(x, i), at(y, i), a!.dtype)),
    };
  };
/** An open dim times a number is an open dim of its own: batch and heads, merged for attention. */
function multiples(pair: Known[]): Known | undefined {
  const open = pair.find((k) => k.dims.length === 1 && typeof k.dims[0] === "string");
  const times = pair.find((k) => k !== open)!.dims[0];
  if (!open || pair.some((k) => k.dims.length !== 1) || typeof times !== "number") return undefined;
  return { ...open, dims: [dimProduct([times, ...open.dims])] };
}
const each =
  (f: (a: number) => number) =>
  ([a]: Known[]): Known => ({ ...a!, dims: numbers(a!).map(f) });
const isInteger = (d: DType): boolean => d === "int64" || d === "int32";
const reshaped = ({ dtype, dims }: Known, rank: number): Known => ({
  dtype,
  dims,
  shape: rank === 0 ? [] : [dims.length],
});

const rules: Record<string, (inputs: Known[], a: Attributes) => Known | undefined> = {
  Identity: ([x]) => x,
  Cast: ([x], { to }) => {
    const integer = to === 6 || to === 7;
    const dtype: DType = integer ? (to === 7 ? "int64" : "int32") : to === 9 ? "bool" : "float32";
    return { ...x!, dtype, dims: x!.dims.map((d) => (typeof d === "number" && integer ? Math.trunc(d) : d)) };
  },
  Gather: ([x, at]) => {
    if (x!.shape.length !== 1) return undefined;
    const dims = numbers(at!).map((i) => x!.dims[i < 0 ? i + x!.dims.length : i]!);
    return { dtype: x!.dtype, shape: at!.shape, dims };
  },
  Concat: (xs) => ({ dtype: xs[0]!.dtype, shape: [xs.flatMap((x) => x.dims).length], dims: xs.flatMap((x) => x.dims) }),
  Unsqueeze: ([x]) => (x!.shape.length === 0 ? reshaped(x!, 1) : undefined),
  Squeeze: ([x]) => (x!.dims.length === 1 ? reshaped(x!, 0) : undefined),
  Slice: ([x, starts, ends, axes, steps]) => {
    if (starts!.dims.length !== 1) return undefined;
    const [axis = 0, step = 1] = [axes, steps].map((k) => (k ? numbers(k)[0] : undefined));
    const at = axis < 0 ? axis + x!.shape.length : axis;
    return along(x!, at, sliced(x!.shape[at]!, numbers(starts!)[0]!, numbers(ends!)[0]!, step));
  },
  Reshape: ([x, to]) => {
    const wanted = numbers(to!).map((d, i) => (d === 0 ? x!.shape[i]! : d));
    const rest = x!.dims.length / sizeOf(wanted.filter((d) => d !== -1));
    return { ...x!, shape: wanted.map((d) => (d === -1 ? rest : d)) };
  },
  Transpose: ([x], { perm }) => {
    if (x!.shape.length !== 2 || String(perm ?? "1,0") !== "1,0") return undefined;
    const [rows, columns] = x!.shape as [number, number];
    const dims = Array.from({ length: columns }, (_, c) =>
      Array.from({ length: rows }, (_, r) => x!.dims[r * columns + c]!),
    );
    return { dtype: x!.dtype, shape: [columns, rows], dims: dims.flat() };
  },
  ConstantOfShape: ([s], { value }) => {
    const shape = numbers(s!);
    if (sizeOf(shape) > largest) return undefined;
    const fill = value as Tensor | undefined;
    return {
      dtype: fill?.dtype ?? "float32",
      shape,
      dims: Array<number>(sizeOf(shape)).fill(Number(fill?.data[0] ?? 0)),
    };
  },
  Add: pairwise((a, b) => a + b),
  Sub: pairwise((a, b) => a - b),
  Mul: (pair) => multiples(pair) ?? pairwise((a, b) => a * b)(pair),
  Div: pairwise((a, b, d) => (isInteger(d) ? Math.trunc(a / b) : a / b)),
  Mod: pairwise((a, b) => ((a % b) + b) % b),
  Clip: ([x, low, high]) => {
    const [least, most] = [low ? numbers(low)[0]! : -Infinity, high ? numbers(high)[0]! : Infinity];
    return { ...x!, dims: numbers(x!).map((v) => Math.min(Math.max(v, least), most)) };
  },
  Equal: ([a, b]) => {
    const at = ({ dims }: Known, i: number): Dim => dims[dims.length === 1 ? 0 : i]!;
    const longer = b!.dims.length > a!.dims.length ? b! : a!;
    return { dtype: "bool", shape: longer.shape, dims: longer.dims.map((_, i) => Number(equal(at(a!, i), at(b!, i)))) };
  },
  Where: ([c, a, b]) => ({ ...a!, shape: c!.shape, dims: numbers(c!).map((v, i) => (v ? a! : b!).dims[i]!) }),
  Floor: each(Math.floor),
  Ceil: each(Math.ceil),
  Neg: each((v) => -v),
  Sqrt: each(Math.sqrt),
  ReduceProd: ([x]) => ({ dtype: x!.dtype, shape: [], dims: [numbers(x!).reduce((p, v) => p * v, 1)] }),
};
