/** The reverse of broadcasting: sums a cotangent back to the shape of the operand it belongs to. */
import type { Type, Value } from "../onnx/graph.js";
import { ReduceSum } from "./reduction.js";
import { Reshape } from "./movement.js";

/** g summed over the axes along which `x` was broadcast; the result has x's shape. */
export function unbroadcast(g: Value, x: Type): Value {
  const extra = g.shape.length - x.shape.length;
  const axes = g.shape.flatMap((d, i) => (i < extra || (x.shape[i - extra] === 1 && d !== 1) ? [i] : []));
  if (axes.length === 0) return g;
  const summed = ReduceSum(g, { axes, keepdims: extra ? 0 : 1 });
  return extra && summed.shape.length !== x.shape.length ? Reshape(summed, x.shape as number[]) : summed;
}
