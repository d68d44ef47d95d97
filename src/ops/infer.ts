/** Shape arithmetic that the op families share. */
import { type Dim, type Shape, type Type } from "../onnx/graph.js";
import type { DType } from "../tensor.js";

/** One dim of a broadcast: equal, or one of the two is 1. */
function broadcastDim(a: Dim, b: Dim): Dim {
  if (a === b || b === 1) return a;
  if (a === 1) return b;
  throw new Error(`cannot broadcast dim ${a} with ${b}`);
}

/** NumPy broadcasting, aligned at the last axis. */
export function broadcast(...shapes: Shape[]): Dim[] {
  const rank = Math.max(...shapes.map((s) => s.length));
  return Array.from({ length: rank }, (_, i) =>
    shapes.map((s) => s[s.length - rank + i] ?? 1).reduce((a, b) => broadcastDim(a, b)),
  );
}

export const normalizeAxis = (axis: number, rank: number): number => {
  if (axis < -rank || axis >= rank) throw new Error(`axis ${axis} is outside rank ${rank}`);
  return axis < 0 ? axis + rank : axis;
};

export const sameType = ([x]: readonly Type[]): Type[] => [{ dtype: x!.dtype, shape: x!.shape }];

export const sameDtypes = (types: readonly Type[]): DType => {
  const [first] = types;
  const other = types.find((t) => t.dtype !== first!.dtype);
  if (other) throw new Error(`needs one dtype, got ${first!.dtype} and ${other.dtype}`);
  return first!.dtype;
};

export const broadcasting = (types: readonly Type[]): Type[] => [
  { dtype: sameDtypes(types), shape: broadcast(...types.map((t) => t.shape)) },
];
export const comparing = (types: readonly Type[]): Type[] => [
  { dtype: "bool", shape: broadcast(...(sameDtypes(types), types.map((t) => t.shape))) },
];

/** Shape after reducing `axes` (all when undefined). */
export function reduced(shape: Shape, axes: readonly number[] | undefined, keepdims: number): Dim[] {
  const gone = new Set((axes ?? shape.map((_, i) => i)).map((a) => normalizeAxis(a, shape.length)));
  return shape.flatMap((d, i) => (gone.has(i) ? (keepdims ? [1] : []) : [d]));
}

export const product = (ds: readonly number[]): number => ds.reduce((a, b) => a * b, 1);
export const isNumber = (d: Dim): d is number => typeof d === "number";

/** Length along one axis of a windowed op (convolution, pooling): ⌊(size + pad − dilation·(kernel − 1) − 1)/stride⌋ + 1 */
export const windowed = (size: Dim, kernel: number, stride: number, pad: number, dilation: number): Dim => {
  const shift = pad - dilation * (kernel - 1) - 1;
  if (!isNumber(size))
    return stride === 1 && shift === -1 ? size : `⌊(${size}${shift < 0 ? shift : `+${shift}`})/${stride}⌋+1`;
  const out = Math.floor((size + shift) / stride) + 1;
  if (out < 1) throw new Error(`window ${kernel} does not fit into length ${size} with padding ${pad}`);
  return out;
};
