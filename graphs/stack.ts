/** Tensors of any shapes as one tensor [rows, width], where an elementwise rule is one kernel for all of them. */
import { dims, type Value } from "../src/onnx/graph.js";
import { Concat, Reshape, Split } from "../src/ops/index.js";
import { sizeOf } from "../src/tensor.js";

export interface Stack {
  readonly shape: [rows: number, width: number];
  /** Rows of each tensor. */
  readonly rows: readonly number[];
  join(values: readonly Value[]): Value;
  /** The reverse. */
  part(joined: Value): Value[];
}

/**
 * Numbers in a row at most. The CUDA kernels of Concat and Split take a table with an entry for each index of the axis, made by the host
 * and copied each time: 25 million entries for a ResNet-50 as one vector, a 256th of that in rows.
 */
const longestRow = 256;
const gcd = (a: number, b: number): number => (b ? gcd(b, a % b) : a);
/** The longest row that a tensor fills without a rest: what can be stacked with what. */
export const widthOf = (v: Value): number => gcd(longestRow, sizeOf(dims(v)));

/** Tensors of equal width, one below the other. */
export function stacked(values: readonly Value[]): Stack {
  const shapes = values.map(dims);
  const width = widthOf(values[0]!);
  const rows = shapes.map((s) => sizeOf(s) / width);
  return {
    shape: [rows.reduce((a, b) => a + b, 0), width],
    rows,
    join: (given) =>
      Concat(
        given.map((v, i) => Reshape(v, [rows[i]!, width])),
        { axis: 0 },
      ),
    part(joined) {
      const parts = rows.length > 1 ? Split(joined, rows, { axis: 0 }) : [joined];
      return parts.map((v, i) => Reshape(v, shapes[i]!));
    },
  };
}
