/** The reverse of broadcasting: sums a cotangent back to the shape of the operand it belongs to. */
import { constant, type Type, type Value } from "../onnx/graph.js";
import { MatMul } from "./contraction.js";
import { product } from "./infer.js";
import { Reshape } from "./movement.js";
import { deviceOf } from "./op.js";
import { ReduceSum } from "./reduction.js";

/** g summed over the axes along which `x` was broadcast; the result has x's shape. */
export function unbroadcast(g: Value, x: Type): Value {
  const extra = g.shape.length - x.shape.length;
  const axes = g.shape.flatMap((d, i) => (i < extra || (x.shape[i - extra] === 1 && d !== 1) ? [i] : []));
  if (axes.length === 0) return g;
  const leading = axes.at(-1) === axes.length - 1 && axes.length < g.shape.length;
  if (deviceOf(g) === "cpu" && leading && !g.shape.includes(0))
    return Reshape(summedRows(g, axes.length), x.shape as number[]);
  const summed = ReduceSum(g, { axes, keepdims: extra ? 0 : 1 });
  return extra && summed.shape.length !== x.shape.length ? Reshape(summed, x.shape as number[]) : summed;
}

/**
 * g summed over its first axes, as 1ᵀ·g [1,…]: on CPU ReduceSum takes 0.20 ms for [2080,768] and 1.8 for [32,49152] on two threads (0.16
 * and 0.20 on one), the product 0.09 and 0.09.
 */
function summedRows(g: Value, count: number): Value {
  const rows = product(g.shape.slice(0, count) as number[]);
  return MatMul(constant([1, rows], Array<number>(rows).fill(1), g.dtype), Reshape(g, [rows, -1]));
}
