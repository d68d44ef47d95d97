/** Precision of a training step: the type of its products, and the loss scale that 16 bits need. */
import type { Value } from "../src/onnx/graph.js";
import { withoutCudaKernel } from "../src/ops/cuda.js";
import { Add, Div, GreaterOrEqual, Min, Mul, Where } from "../src/ops/index.js";
import { zerosInit } from "./layers.js";
import type { Compute, Scope } from "./scope.js";

/**
 * fp32: products in float32, in full; tf32: the same graph, and the card rounds the factors of its products to 10 bits; fp16 and bf16:
 * products and convolutional activations in 16 bits; parameters, statistics, softmax, embeddings and loss stay float32.
 */
export const precisions = {
  fp32: "float32",
  tf32: "float32",
  fp16: "float16",
  bf16: "bfloat16",
} as const satisfies Record<string, Compute>;
export type Precision = keyof typeof precisions;

export interface LossScale {
  /** 65536 */
  start: number;
  /** Steps without an overflow after which the scale doubles: 2000. */
  growthInterval: number;
}
export const lossScaleDefaults: LossScale = { start: 65536, growthInterval: 2000 };

/** A larger scale would be infinite after its next doubling, and never finite again. */
const largestScale = 2 ** 126;

/**
 * Dynamic loss scaling (Micikevicius et al., ICLR 2018, arXiv 1710.03740), moved as torch.amp.GradScaler moves it: gradients of c·L keep
 * the digits that would vanish below float16's 6e-8, and are divided by c in float32.
 *
 *   c ← c/2 where a gradient was not finite, 2c after `growthInterval` steps without, else c
 */
export function lossScaling(s: Scope, { start, growthInterval }: LossScale) {
  const own = s.child("lossScale").with({ every: "attempt" });
  const scale = own.state("scale", [], { name: "constant", value: start });
  const inverse = Div(1, scale);
  const run = own.state("finiteSteps", [], zerosInit);
  return {
    scale,
    unscaled: (g: Value): Value => Mul(g, inverse),
    /** `applied`: whether this step's gradients were finite. */
    move(applied: Value): void {
      const longer = Where(applied, Add(run, 1), 0);
      const grows = GreaterOrEqual(longer, growthInterval);
      own.update("finiteSteps", Where(grows, 0, longer));
      own.update("scale", Where(applied, Where(grows, Min(Mul(scale, 2), largestScale), scale), Mul(scale, 0.5)));
    },
  };
}

/** Refuses a graph whose bfloat16 nodes have no kernel on a card: there is none on the CPU either. */
export function refuseWithoutKernels(values: readonly Value[]): void {
  const nodes = withoutCudaKernel(values).filter((n) => n.outputs.some((y) => y.dtype === "bfloat16"));
  if (nodes.length === 0) return;
  const ops = [...new Set(nodes.map((n) => n.op.type))];
  throw new Error(
    `precision bf16: the library has no bfloat16 kernel for ${ops.join(", ")} (first at ${nodes[0]!.origin?.path || "graph"}). Take fp16, or a ViT.`,
  );
}
