/** What a graph computes about shapes, computed while it is read: small tensors of numbers, a symbol standing for a dim that is open. */
import { constantOf, type Dim, type Value } from "./graph.js";
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
    ? { dtype: c.dtype, shape: c.shape, dims: Array.from(c.data as ArrayLike<number>, Number) }
    : undefined;

/** The constant of a known value without symbols. */
export const constantKnown = ({ dtype, shape, dims }: Known): Value | undefined =>
  dims.every((d) => typeof d === "number") ? constantOf(tensor(dtype, shape, dims)) : undefined;

/** The result of an op on known values; undefined where this is not such an op. `x` is the first input, for Shape. */
export function folded(
  type: string,
  x: Value | null,
  inputs: readonly (Known | undefined)[],
  a: Attributes,
): Known | undefined {
  if (type === "Shape" && x)
    return ofDims(x.shape.slice((a.start as number) ?? 0, (a.end as number) ?? x.shape.length));
  if (type === "Constant") return constantAttribute(a);
  const rule = rules[type];
  if (!rule || inputs.length === 0 || !inputs.every((k) => k)) return undefined;
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
  Slice: ([x, starts, ends, , steps]) => {
    if (x!.shape.length !== 1 || (steps && numbers(steps)[0] !== 1)) return undefined;
    return ofDims(x!.dims.slice(numbers(starts!)[0], numbers(ends!)[0]));
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
  Mul: pairwise((a, b) => a * b),
  Div: pairwise((a, b, d) => (isInteger(d) ? Math.trunc(a / b) : a / b)),
  Mod: pairwise((a, b) => ((a % b) + b) % b),
  Equal: pairwise((a, b) => Number(a === b), "bool"),
  Where: ([c, a, b]) => ({ ...a!, shape: c!.shape, dims: numbers(c!).map((v, i) => (v ? a! : b!).dims[i]!) }),
  Floor: each(Math.floor),
  Ceil: each(Math.ceil),
  Neg: each((v) => -v),
  Sqrt: each(Math.sqrt),
  ReduceProd: ([x]) => ({ dtype: x!.dtype, shape: [], dims: [numbers(x!).reduce((p, v) => p * v, 1)] }),
};
