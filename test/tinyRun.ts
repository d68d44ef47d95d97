/** A step small enough for tests: two blocks' worth of ResNet on 16 px, any method. */
import { boundNetwork } from "../graphs/encoder.js";
import type { Shown } from "../graphs/methods/aps.js";
import { methods, type Method, type MethodName } from "../graphs/methods/index.js";
import { optimizers, type OptimizerName } from "../graphs/optimizers.js";
import { trainingStep } from "../graphs/step.js";
import type { Dialect } from "../src/onnx/graph.js";
import { random } from "../src/random.js";
import type { TrainingStep } from "../src/step.js";
import { tensor, type Tensors } from "../src/tensor.js";

const batchSize = 16;
const size = 16;

const optionsOf = (method: MethodName): object => ({
  ...methods[method].defaults,
  hiddenDim: 16,
  outDim: 8,
  queueSize: 64,
  bnGroups: 2,
  grid: 4,
});

/** resnet: BatchNorm, convolutions, ReLU; vit: LayerNorm, attention, GELU, and no kink but the head's; mocoVit: with frozen parameters. */
const networks = {
  resnet: { name: "resnet18", stem: "cifar", width: 8 },
  vit: { name: "vitTiny", embedDim: 32, depth: 2, numHeads: 2, patchSize: 4 },
  mocoVit: { name: "mocoVitSmall", embedDim: 32, depth: 2, numHeads: 2, patchSize: 4, stopGradConv1: true },
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
  const images = 3 * batchSize * size * size;
  const both = new Float32Array(2 * images);
  const r = random(1, "views", t % 4);
  for (let i = 0; i < images; i++) both[i] = r.normal();
  for (let i = 0; i < images; i++) both[images + i] = both[i]! + 0.3 * r.normal();
  const entry = methods[method] as unknown as Method<object>;
  const views: Tensors = {};
  let at = 0;
  for (const { name, count } of entry.views(optionsOf(method), size))
    views[name] = tensor("float32", [count, batchSize, 3, size, size], both.subarray(at, (at += count * images)));
  const box = { top: 0, left: 0, height: size, width: size };
  const shown = Array.from({ length: 2 }, () => Array(batchSize).fill({ crop: box, flip: false }) as Shown[]);
  const drawn = { inner: t % (entry.stepsPerBatch?.(optionsOf(method)) ?? 1), views: { views: shown } };
  return { ...views, ...entry.draw?.(random(1, "draw", t % 4), optionsOf(method), batchSize, drawn) };
}

export const tinyScalars = { lr: 0.05, momentum: 0.9, lossLambda: 0.5 };
