/** Semantic segmentation: the network and a fully convolutional head trained on label maps, judged by mIoU. DenseCL's transfer (mmsegmentation, configs/densecl). */
import { backbones } from "../../graphs/backbones/index.js";
import type { EncoderInfo } from "../../graphs/encoder.js";
import { labelsModel, segmentationStep, segmenterModel, type SegmenterOptions } from "../../graphs/segmentation.js";
import { readImage } from "../../src/data/dataset.js";
import { encodePng } from "../../src/data/decode.js";
import type { LabelMap } from "../../src/data/labelPng.js";
import { loader } from "../../src/data/loader.js";
import {
  ignored,
  openSegmentation,
  type SegmentationData,
  type SegmentationOptions,
  type SegmentationSplit,
} from "../../src/data/segmentationFolder.js";
import type { NativeEngine } from "../../src/engines/native/index.js";
import { random, type Random } from "../../src/random.js";
import type { TrainingStep } from "../../src/step.js";
import { tensor, zeros, type Tensor, type Tensors } from "../../src/tensor.js";
import { train, type Prepared } from "../../src/train.js";
import type { DenseEvaluator } from "../evaluator.js";
import { openStep } from "../heads.js";
import { miouCounter } from "../miou.js";
import { answerSheet, type Answer } from "./picture.js";
import { byShortSide, drawCut, uncut, viewer, type Cutting, type Viewer } from "./views.js";

export interface SegmentationJudgeOptions extends SegmentationOptions, Omit<SegmenterOptions, "classes"> {
  epochs: number;
  batchSize: number;
  lr: number;
  /** The heads' rate over the backbone's: 1 in DenseCL's configs, 10 is common. */
  headRate: number;
  weightDecay: number;
  /** Short side of the images, in training times the ratio; 0 leaves them as they are. A backbone of one size gets squares of that size. */
  shortSide: number;
  /** Height and width of a training view. */
  crop: number[];
  /** Images are squeezed to the crop's height and width, whatever their own, instead of resized by the short side. */
  squeeze: boolean;
  ratio: number[];
  flip: number;
  /** Share of the channels dropped before the classifier, below 1. */
  dropout: number;
  seed: number;
}

export interface OpenedSegmentation extends SegmentationData {
  note: string;
}

export const segmentation: DenseEvaluator<SegmentationJudgeOptions, OpenedSegmentation> = {
  summary: "A class for each pixel: a fully convolutional head on the dilated network, trained on label maps",
  defaults: {
    epochs: 30,
    batchSize: 16,
    lr: 0.01,
    headRate: 1,
    weightDecay: 5e-4,
    outputStride: 8,
    channels: 512,
    convs: 2,
    dilation: 1,
    concatInput: true,
    dropout: 0.1,
    auxiliary: 0.4,
    alignCorners: false,
    freeze: false,
    shortSide: 0,
    crop: [512, 512],
    squeeze: false,
    ratio: [0.5, 2],
    flip: 0.5,
    split: "val",
    classes: 0,
    ignore: [ignored],
    seed: 0,
  },
  choices: { split: ["val", "test"] },
  counts: ["epochs", "batchSize", "channels", "dilation", "outputStride", "crop"],
  judges: "places",
  protocol: (o) =>
    `FCN head, ${o.convs} convolutions of ${o.channels}, output stride ${o.outputStride} where there are stages; ` +
    `${o.freeze ? "backbone frozen, its BatchNorm in evaluation mode" : `backbone trained, BatchNorm trains on, auxiliary loss ${o.auxiliary}`}; ` +
    `SGD, lr ${o.lr} (heads times ${o.headRate}), poly 0.9 to ${lastRate}, decay ${o.weightDecay}, ${o.epochs} epochs, batch ${o.batchSize}; ` +
    `${o.squeeze ? "squeezed to the crop" : `short side ${o.shortSide || "as it is"}`}, times ${o.ratio.join("–")}, crops of ${o.crop.join(" × ")}, flips; last epoch, whole images`,
  async open(root, o) {
    if (![8, 16, 32].includes(o.outputStride))
      throw new Error(`Expected 8, 16 or 32 for outputStride but received ${o.outputStride}.`);
    if (o.dropout >= 1 || o.flip > 1)
      throw new Error(`Expected a dropout below 1 and a flip of at most 1 but received ${o.dropout} and ${o.flip}.`);
    const data = openSegmentation(root, o);
    // before the training, which a bad test file would end only after hours
    for (let i = 0; i < data.test.images.length; i++) data.test.labels(i, await readImage(data.test.images, i));
    const [learn, asked] = [data.train.images.length, data.test.images.length];
    const note = `${data.layout}: ${learn} training and ${asked} ${o.split} images, ${data.classes.length} classes; labels ${[...new Set([...o.ignore, ignored])].join(", ")} do not count`;
    return { ...data, note };
  },
  async evaluate({ engine, network, data, say }, o) {
    const { info } = network;
    const [[height, width], ratio] = [pair("crop", o.crop), pair("ratio", o.ratio)];
    const { anySize } = backbones[info.backbone];
    const crop = anySize ? { height, width } : { height: info.size, width: info.size };
    const cutting: Cutting = {
      resized: anySize && !o.squeeze ? byShortSide(o.shortSide) : () => crop,
      ratio,
      crop,
      flip: o.flip,
    };
    if (!anySize) say(`This backbone takes ${info.size} × ${info.size} pixels alone: images are squeezed to that.`);
    const segmenter: SegmenterOptions = { ...o, classes: data.classes.length };
    const views = await viewer(engine);
    const setting: Setting = { engine, info, segmenter, cutting, views };
    try {
      const tensors = await trained(setting, network.tensors, data.train, o, say);
      const model = segmenterModel(info, segmenter, data.classes, tensors);
      const { result, shown } = await answered(setting, model, data.test);
      return {
        metrics: { mIoU: result.miou, pixelAccuracy: result.pixelAccuracy, meanAccuracy: result.meanAccuracy },
        perClass: Object.fromEntries(data.classes.map((name, c) => [name, result.iou[c] ?? NaN])),
        model,
        picture: () => encodePng(answerSheet(shown)),
      };
    } finally {
      views.release();
    }
  },
};

/** What training and judging share. */
interface Setting {
  engine: NativeEngine;
  info: EncoderInfo;
  segmenter: SegmenterOptions;
  cutting: Cutting;
  views: Viewer;
}

function pair(name: string, values: readonly number[]): readonly [number, number] {
  if (values.length !== 2) throw new Error(`Expected two numbers for ${name} but received ${values.join(",")}.`);
  return values as [number, number];
}

/** The step's tensors after the last epoch. */
async function trained(
  setting: Setting,
  weights: Tensors,
  data: SegmentationSplit,
  o: SegmentationJudgeOptions,
  say: (line: string) => void,
): Promise<Tensors> {
  const { engine, info, segmenter, cutting } = setting;
  const batchSize = Math.min(o.batchSize, data.images.length);
  const stepOptions = {
    ...o,
    ...segmenter,
    ...cutting.crop,
    dialect: engine.dialect,
    info,
    batchSize,
    momentum,
    ignored,
  };
  const step = segmentationStep(stepOptions);
  const given = Object.fromEntries(Object.entries(weights).map(([name, t]) => [`backbone.${name}`, t]));
  const session = await openStep(engine, step, o.seed, given);
  try {
    await train({
      session,
      batches: batches(setting, data, step, o, say),
      scalars: { lr: { schedule: "poly", peak: o.lr, end: Math.min(lastRate, o.lr) } },
      startStep: 0,
      stepsPerEpoch: Math.floor(data.images.length / batchSize),
      epochs: o.epochs,
      onEpoch: (epoch) => say(`epoch ${epoch}/${o.epochs}: loss ${session.metrics().loss!.toFixed(4)}`),
    });
    return session.tensors();
  } finally {
    session.release();
  }
}

/** SGD's momentum, and what the rate falls to: DenseCL's configs. */
const momentum = 0.9;
const lastRate = 1e-4;

/** Views with their labels and the heads' dropout: a function of (seed, epoch, batch). */
async function* batches(
  { info, cutting, views }: Setting,
  data: SegmentationSplit,
  step: TrainingStep,
  o: SegmentationJudgeOptions,
  say: (line: string) => void,
): AsyncGenerator<Prepared, never> {
  const [image, , ...masks] = step.inputs;
  const read = loader(data.images, {
    batchSize: image!.shape[0] as number,
    seed: o.seed,
    onBroken: (key, reason) => say(`${key} cannot be read and is left out: ${reason}`),
  });
  for await (const { epoch, batch, indices, images } of read.from(0, 0)) {
    const cuts = images.map((size, i) => drawCut(random(o.seed, "cut", epoch, batch, i), size, cutting));
    const labels = indices.map((index, i) => data.labels(index, images[i]!));
    const inputs: Tensors = { ...(await views.batch(images, labels, cuts, cutting.crop, info.mean)) };
    for (const { name, shape } of masks)
      inputs[name!] = dropoutMask(random(o.seed, name!, epoch, batch), shape as number[], o.dropout);
    yield { epoch, batch, inner: 0, inputs };
  }
  throw new Error("The batches ended.");
}

/** 0 with probability p, else 1/(1 − p) */
function dropoutMask(r: Random, shape: number[], p: number): Tensor {
  const mask = zeros("float32", shape);
  mask.data.forEach((_, i) => (mask.data[i] = r.uniform() < p ? 0 : 1 / (1 - p)));
  return mask;
}

/** Images of the picture. */
const shownImages = 4;

/** Every test image answered whole, its logits resampled to the labels' own size, as mmsegmentation does. */
async function answered(
  { engine, segmenter: { classes, alignCorners }, cutting: { resized }, views }: Setting,
  model: Uint8Array,
  { images, labels }: SegmentationSplit,
) {
  const segmenter = await engine.session(model);
  const toLabels = await engine.session(labelsModel(classes, alignCorners));
  const counter = miouCounter({ ignore: ignored, classes });
  const shown: Answer[] = [];
  try {
    for (let i = 0; i < images.length; i++) {
      const image = await readImage(images, i);
      const truth = labels(i, image);
      const { logits } = await segmenter.run({ image: await views.view(image, uncut(image, resized(image))) }, [
        "logits",
      ]);
      const size = tensor("int64", [2], [image.height, image.width]);
      const { labels: found } = await toLabels.run({ logits: logits!, size });
      const prediction: LabelMap = { ...truth, labels: Uint16Array.from(found!.data as BigInt64Array, Number) };
      counter.add({ name: images.key(i), truth, prediction });
      if (i % Math.ceil(images.length / shownImages) === 0) shown.push({ image, prediction, truth });
    }
  } finally {
    segmenter.release();
    toLabels.release();
  }
  return { result: counter.result(), shown };
}
