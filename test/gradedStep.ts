/** A step whose gradients are its inputs: what optimizers, clipping and layouts make of given numbers. */
import { zerosInit } from "../graphs/layers.js";
import { rootScope, type Layout } from "../graphs/scope.js";
import { supervisedStep, type Updating } from "../graphs/step.js";
import { input, type Dialect } from "../src/onnx/graph.js";
import { Add, Mul, ReduceSum } from "../src/ops/index.js";
import type { TrainingStep } from "../src/step.js";

/** Inputs grad_NAME, one a parameter: of L = Σ p·g the gradient is g. */
export function gradedStep(
  shapes: Readonly<Record<string, readonly number[]>>,
  updating: Updating,
  { dialect, layout = "apart" }: { dialect: Dialect; layout?: Layout },
): TrainingStep {
  const { scope: root, collected } = rootScope(dialect);
  const scope = root.with({ layout });
  const inputs = Object.entries(shapes).map(([name, shape]) => input(`grad_${name}`, "float32", shape));
  const terms = Object.entries(shapes).map(([name, shape], i) =>
    ReduceSum(Mul(scope.parameter(name, shape, zerosInit), inputs[i]!), { keepdims: 0 }),
  );
  return supervisedStep(scope, collected, { inputs, loss: terms.reduce((a, b) => Add(a, b)) }, updating);
}
