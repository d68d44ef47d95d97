/** Bounds on the gradients of a step, before the optimizer sees them. */
import { constant, type Value } from "../src/onnx/graph.js";
import { Abs, Add, Clip, Div, Max, Min, Mul, ReduceMax, ReduceSumSquare, Sqrt } from "../src/ops/index.js";

export interface Clipping {
  /** Largest L2 norm of all gradients together; longer ones are scaled down to it. torch.nn.utils.clip_grad_norm_ */
  clipNorm?: number;
  /** Largest element of all gradients; where one is larger, all are scaled down alike. clip_grad_norm_ with norm_type inf */
  clipInfinityNorm?: number;
  /** Each element is cut to ±clipValue, after the norms. clip_grad_value_ */
  clipValue?: number;
}

/** ‖g‖₂ over all gradients, and its square */
export function globalNorm(gradients: readonly Value[]): { norm: Value; square: Value } {
  const square = gradients.map((g) => ReduceSumSquare(g, { keepdims: 0 })).reduce((a, b) => Add(a, b));
  return { norm: Sqrt(square), square };
}

/** ‖g‖∞ over all gradients */
export const infinityNorm = (gradients: readonly Value[]): Value =>
  gradients.map((g) => ReduceMax(Abs(g), { keepdims: 0 })).reduce((a, b) => Max(a, b));

/** min(1, max/(norm + 1e-6)), as torch has it */
const factor = (norm: Value, max: number): Value => Min(Div(constant([], max), Add(norm, 1e-6)), 1);

/** The gradients within their bounds; `norm` is their L2 norm. */
export function clipped(gradients: readonly Value[], norm: Value, o: Clipping): Value[] {
  const factors: Value[] = [];
  if (o.clipNorm !== undefined) factors.push(factor(norm, o.clipNorm));
  if (o.clipInfinityNorm !== undefined) factors.push(factor(infinityNorm(gradients), o.clipInfinityNorm));
  return gradients.map((g) => {
    const scaled = factors.reduce((v, f) => Mul(v, f), g);
    return o.clipValue === undefined ? scaled : Clip(scaled, -o.clipValue, o.clipValue);
  });
}
