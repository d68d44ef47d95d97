/** Fine-tuning: the network trained on with labels, as a training step. */
import { input, type Dialect, type Value } from "../src/onnx/graph.js";
import { Add, LogSoftmax, Mul, Neg, OneHot, ReduceMean, ReduceSum, Reshape, Slice, Sub } from "../src/ops/index.js";
import type { TrainingStep } from "../src/step.js";
import type { Tensors } from "../src/tensor.js";
import { network, networkModel, type EncoderInfo } from "./encoder.js";
import { linear, zerosInit } from "./layers.js";
import type { Optimizer } from "./optimizers.js";
import { rootScope, type Scope } from "./scope.js";
import { supervisedStep } from "./step.js";

/**
 * Layer-wise decay (Clark et al., ICLR 2020; BEiT, MAE): decay^(layers above). Blocks are told by the first number in a name
 * (blocks.3, layer2.0), in the order of use; what comes before the first is the lowest layer, what comes after the last the highest.
 */
export function layerRates(names: readonly string[], decay: number): Map<string, number> {
  const blockOf = (name: string): string | undefined => /^(?:.*?\.)?\d+(?=\.)/.exec(name)?.[0];
  const last = names.findLastIndex((name) => blockOf(name) !== undefined);
  const seen = new Set<string>();
  const layers = names.map((name, i): [string, number] => {
    const block = blockOf(name);
    if (block !== undefined) seen.add(block);
    return [name, i > last ? seen.size + 1 : seen.size];
  });
  const top = Math.max(...layers.map(([, layer]) => layer));
  return new Map(layers.map(([name, layer]) => [name, decay ** (top - layer)]));
}

export interface FinetuneStepOptions {
  dialect: Dialect;
  info: EncoderInfo;
  classes: number;
  batchSize: number;
  /** Share of a target that is spread over all classes (Szegedy et al., 2016). */
  labelSmoothing: number;
  layerDecay: number;
  optimizer: Optimizer<never>;
  /** Options of one parameter, by its name. */
  optimizerOptions(name: string): object;
}

/** features of `backbone` → logits of `head`, named as the step names them */
export function classifier(s: Scope, image: Value, info: EncoderInfo, classes: number): Value {
  const { backbone, options } = network(info.backbone, info.options);
  const { features } = backbone.forward(s.child("backbone"), image, options);
  return linear(s.child("head"), features, classes, {
    init: { name: "truncatedNormal", std: 0.02 },
    biasInit: zerosInit,
  });
}

/** What fine-tuning ends with: `image` as an encoder takes it → `logits` [B,C]. */
export const classifierModel = (info: EncoderInfo, classes: number, tensors: Tensors): Uint8Array =>
  networkModel("classifier", info, tensors, (s, image) => ({ logits: classifier(s, image, info, classes) }));

/**
 * One step of fine-tuning. Inputs `view` [1,B,C,S,S], `labels` int64 [B], `mask` [1,1,S,S] and `share` []: each image is mixed with
 * the one at the other end of the batch, mask·x + (1 − mask)·x′, and so are the targets, share·y + (1 − share)·y′. A mask of one
 * number is mixup (Zhang et al., 2018), a box of zeros CutMix (Yun et al., 2019), all ones neither.
 */
export function finetuneStep(o: FinetuneStepOptions): TrainingStep {
  const { scope, collected } = rootScope(o.dialect);
  const origin = { path: "", dialect: o.dialect };
  const { size } = o.info;
  const channels = o.info.mean.length;
  const view = input("view", "float32", [1, o.batchSize, channels, size, size], origin);
  const labels = input("labels", "int64", [o.batchSize], origin);
  const mask = input("mask", "float32", [1, 1, size, size], origin);
  const share = input("share", "float32", [], origin);
  const images = Reshape(view, [o.batchSize, channels, size, size]);
  const logits = classifier(scope, mixed(images, mask), o.info, o.classes);
  const smooth = Add(Mul(OneHot(labels, o.classes), 1 - o.labelSmoothing), o.labelSmoothing / o.classes); // [B,C]
  const entropy = Neg(ReduceSum(Mul(LogSoftmax(logits), mixed(smooth, share)), { axes: [1], keepdims: 0 }));
  const loss = ReduceMean(entropy, { keepdims: 0 });

  const rates = layerRates([...collected.parameters.keys()], o.layerDecay);
  return supervisedStep(
    scope,
    collected,
    { inputs: [view, labels, mask, share], loss },
    {
      optimizer: o.optimizer,
      optimizerOptions: {},
      own: (name) => ({ rate: rates.get(name)!, options: o.optimizerOptions(name) }),
    },
  );
}

/** m·x + (1 − m)·x in reverse order of the batch */
function mixed(x: Value, m: Value): Value {
  const reversed = Slice(x, { starts: [-1], ends: [-(2 ** 31)], axes: [0], steps: [-1] });
  return Add(Mul(x, m), Mul(reversed, Sub(1, m)));
}
