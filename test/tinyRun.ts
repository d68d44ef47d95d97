/** A step small enough for tests: two blocks' worth of ResNet on 16 px, any method. */
import { boundNetwork } from "../graphs/encoder.js";
import { methods, type MethodName } from "../graphs/methods/index.js";
import { optimizers, type OptimizerName } from "../graphs/optimizers.js";
import { trainingStep } from "../graphs/step.js";
import type { Dialect } from "../src/onnx/graph.js";
import { random } from "../src/random.js";
import type { TrainingStep } from "../src/step.js";
import { zeros, type Tensors } from "../src/tensor.js";

const batchSize = 16;
const size = 16;

const optionsOf = (method: MethodName): object => ({
  ...methods[method].defaults,
  hiddenDim: 16,
  outDim: 8,
  queueSize: 64,
  bnGroups: 2,
});

/** resnet: BatchNorm, convolutions, ReLU; vit: LayerNorm, attention, GELU, and no kink but the head's. */
const networks = {
  resnet: { name: "resnet18", stem: "cifar", width: 8 },
  vit: { name: "vitTiny", embedDim: 32, depth: 2, numHeads: 2, patchSize: 4 },
} as const;

export function tinyStep(
  method: MethodName,
  dialect: Dialect,
  which: keyof typeof networks = "resnet",
  optimizer: OptimizerName = "sgd",
): TrainingStep {
  return trainingStep({
    dialect,
    method: methods[method] as never,
    methodOptions: optionsOf(method),
    network: boundNetwork(networks[which].name, networks[which]),
    optimizer: optimizers[optimizer] as never,
    optimizerOptions: optimizers[optimizer].defaults,
    batchSize,
    size,
  });
}

/** Inputs of step t: four batches in turn, the second view a noisy copy of the first. */
export function tinyInputs(method: MethodName, t: number): Tensors {
  const views = zeros("float32", [2, batchSize, 3, size, size]);
  const half = views.data.length / 2;
  const r = random(1, "views", t % 4);
  for (let i = 0; i < half; i++) views.data[i] = r.normal();
  for (let i = 0; i < half; i++) views.data[half + i] = views.data[i]! + 0.3 * r.normal();
  const draw = (methods[method] as { draw?: (r: ReturnType<typeof random>, o: object, b: number) => Tensors }).draw;
  return { views, ...draw?.(random(1, "draw", t), optionsOf(method), batchSize) };
}

export const tinyScalars = { lr: 0.05, momentum: 0.9, lossLambda: 0.5 };
