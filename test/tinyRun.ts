/** A step small enough for tests: two blocks' worth of ResNet on 16 px, any method. */
import type { BackboneName } from "../graphs/backbones/index.js";
import { boundNetwork, type EncoderInfo } from "../graphs/encoder.js";
import { batchNorm, conv, gelu } from "../graphs/layers.js";
import type { Shown } from "../graphs/methods/aps.js";
import { methods, type Method, type MethodName, type Network } from "../graphs/methods/index.js";
import { optimizers, type OptimizerName } from "../graphs/optimizers.js";
import type { Scope } from "../graphs/scope.js";
import { trainingStep, type StepOptions } from "../graphs/step.js";
import type { Dialect, Value } from "../src/onnx/graph.js";
import { Add, spatialMean } from "../src/ops/index.js";
import { random } from "../src/random.js";
import type { TrainingStep } from "../src/step.js";
import { tensor, zeros, type Tensors } from "../src/tensor.js";

const batchSize = 16;
const size = 16;

export const tinyOptions = (method: MethodName): object => ({
  ...methods[method].defaults,
  hiddenDim: 16,
  outDim: 8,
  queueSize: 64,
  bnGroups: 2,
  grid: 4,
  patches: 2,
  positives: 1,
  similarity: 1,
});

/** Residual blocks of convolutions and BatchNorm with GELU for ReLU: no kink but the head's. */
const geluResnet: Network = (s, image) => {
  const convBn = (at: Scope, x: Value, channels: number, kernel: number, stride: number) =>
    batchNorm(at.child("bn"), conv(at.child("conv"), x, channels, kernel, { strides: [stride, stride] }));
  const block = (at: Scope, x: Value, channels: number, stride: number) => {
    const y = gelu(at, convBn(at.child(1), x, channels, 3, stride));
    const shortcut = convBn(at.child("downsample"), x, channels, 1, stride);
    return gelu(at, Add(convBn(at.child(2), y, channels, 3, 1), shortcut));
  };
  const stem = gelu(s, convBn(s.child("stem"), image, 8, 3, 1));
  const map = block(s.child("block2"), block(s.child("block1"), stem, 8, 2), 16, 2); // [B, 16, 4, 4]
  return { map, features: spatialMean(map) };
};

/** resnet: BatchNorm, convolutions, ReLU; vit: LayerNorm, attention, GELU; mocoVit: with frozen parameters; geluResnet:
 *  BatchNorm, convolutions, GELU. */
export const tinyNetworks = {
  resnet: boundNetwork("resnet18", { stem: "cifar", width: 8 }),
  vit: boundNetwork("vitTiny", { embedDim: 32, depth: 2, numHeads: 2, patchSize: 4 }),
  mocoVit: boundNetwork("mocoVitSmall", { embedDim: 32, depth: 2, numHeads: 2, patchSize: 4, stopGradConv1: true }),
  geluResnet,
};
export type TinyNetwork = keyof typeof tinyNetworks;

/** What an encoder of a tiny network says of itself. */
export const tinyInfo = (backbone: BackboneName, options: object, more: Partial<EncoderInfo> = {}): EncoderInfo => ({
  backbone,
  options,
  size: 16,
  resize: 16,
  mean: [0.5, 0.5, 0.5],
  std: [0.25, 0.25, 0.25],
  method: "simclr",
  recipe: "test",
  ...more,
});

export function tinyStep(
  method: MethodName,
  dialect: Dialect,
  which: TinyNetwork = "resnet",
  optimizer: OptimizerName = "sgd",
  {
    methodOptions,
    batch = batchSize,
    ...rest
  }: { methodOptions?: object; batch?: number } & Partial<
    Pick<StepOptions, "accumulate" | "device" | "layout" | "precision" | "lossScale" | "convolutions">
  > = {},
): TrainingStep {
  return trainingStep({
    dialect,
    method: methods[method] as never,
    methodOptions: { ...tinyOptions(method), ...methodOptions },
    network: tinyNetworks[which],
    optimizer: optimizers[optimizer] as never,
    optimizerOptions: optimizers[optimizer].defaults,
    batchSize: batch,
    size,
    ...rest,
  });
}

/** Views [2,16,…] of one update as those of k batches. */
export function tinyBatches({ views, ...rest }: Tensors, k: number): Tensors[] {
  const [count, b, ...image] = views!.shape as [number, number, ...number[]];
  const width = views!.data.length / (count * b);
  return Array.from({ length: k }, (_, i) => {
    const part = zeros("float32", [count, b / k, ...image]);
    for (let v = 0; v < count; v++) {
      const first = (v * b + (i * b) / k) * width;
      part.data.set(views!.data.subarray(first, first + (b / k) * width) as never, (v * b * width) / k);
    }
    return { ...rest, views: part };
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
  for (const { name, count } of entry.views(tinyOptions(method), size))
    views[name] = tensor("float32", [count, batchSize, 3, size, size], both.subarray(at, (at += count * images)));
  const box = { top: 0, left: 0, height: size, width: size };
  const shown = Array.from({ length: 2 }, () => Array(batchSize).fill({ crop: box, flip: false }) as Shown[]);
  const drawn = { inner: t % (entry.stepsPerBatch?.(tinyOptions(method)) ?? 1), views: { views: shown } };
  return { ...views, ...entry.draw?.(random(1, "draw", t), tinyOptions(method), batchSize, drawn) };
}

export const tinyScalars = { lr: 0.05, momentum: 0.9, lossLambda: 0.5 };
