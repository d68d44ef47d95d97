/** Detection: the network with a feature pyramid and FCOS' head trained on boxes, judged as COCO judges. */
import {
  backboneTrainings,
  detectionStep,
  detectorModel,
  type BackboneTraining,
  type DetectionLimits,
  type DetectorOptions,
} from "../../graphs/detection/index.js";
import type { EncoderInfo } from "../../graphs/encoder.js";
import { sgd } from "../../graphs/optimizers.js";
import { cached } from "../../src/data/cached.js";
import { checkReadable } from "../../src/data/dataset.js";
import { loader } from "../../src/data/loader.js";
import type { NativeEngine } from "../../src/engines/native/index.js";
import type { Dialect } from "../../src/onnx/graph.js";
import { random } from "../../src/random.js";
import type { Schedule } from "../../src/schedules.js";
import type { TrainingStep } from "../../src/step.js";
import type { Tensors } from "../../src/tensor.js";
import { train, type Prepared } from "../../src/train.js";
import { cocoEval } from "../coco/index.js";
import { perClass } from "../coco/perClass.js";
import { detected, resultsOf, vocDetections } from "./detected.js";
import {
  checkSizes,
  openDetection,
  resizedImages,
  type DetectionData,
  type DetectionFiles,
  type Fit,
} from "./folder.js";
import { detectionPicture } from "./picture.js";
import { moved, placed, viewsOf } from "./views.js";
import type { DenseEvaluator, Network } from "../evaluator.js";
import { openStep } from "../heads.js";
import { vocEval } from "../voc.js";

export interface DetectionJudgeOptions extends DetectionFiles, DetectionLimits {
  epochs: number;
  batchSize: number;
  /** At its peak, for the batch size that is given. */
  lr: number;
  /** step: a tenth after each milestone; cosine: to 0. */
  schedule: "step" | "cosine";
  /** Shares of the epochs. */
  milestones: number[];
  warmupEpochs: number;
  weightDecay: number;
  /** fixedNorms: all but BatchNorm, as detectron2's FrozenBatchNorm; all; frozen: the pyramid and the head alone. */
  backbone: BackboneTraining;
  /** Pixels of what the detector sees. */
  height: number;
  width: number;
  /** keep: as large as fits, the rest filled; squash: all of it. */
  fit: Fit;
  /** Of the pyramid and the head, a multiple of 32: 256 in the papers. */
  channels: number;
  /** Convolutions of each of the head's towers: 4 in the paper. */
  convs: number;
  /** Probability of a mirrored image. */
  flip: number;
  seed: number;
}

const backboneWords: Record<BackboneTraining, string> = {
  all: "trained, BatchNorm too",
  fixedNorms: "trained, its BatchNorm fixed",
  frozen: "frozen",
};

export const detection: DenseEvaluator<DetectionJudgeOptions, DetectionData> = {
  summary: "Boxes: a feature pyramid and FCOS' head on the network, trained on COCO's or VOC's annotations",
  defaults: {
    epochs: 12,
    batchSize: 16,
    lr: 0.01,
    schedule: "step",
    milestones: [2 / 3, 11 / 12],
    warmupEpochs: 0.5,
    weightDecay: 1e-4,
    backbone: "fixedNorms",
    height: 512,
    width: 512,
    fit: "keep",
    channels: 256,
    convs: 4,
    flip: 0.5,
    scoreThreshold: 0.05,
    nmsThreshold: 0.6,
    candidates: 1000,
    maxDetections: 100,
    split: "val",
    trainFile: "",
    testFile: "",
    images: "",
    seed: 0,
  },
  choices: {
    schedule: ["step", "cosine"],
    backbone: backboneTrainings,
    fit: ["keep", "squash"],
    split: ["val", "test"],
  },
  counts: ["epochs", "batchSize", "height", "width", "channels", "candidates", "maxDetections"],
  fromScratch: { backbone: "all" },
  judges: "places",
  writesResults: true,
  protocol: (o) =>
    `FPN and FCOS head, ${o.convs} convolutions of ${o.channels}; backbone ${backboneWords[o.backbone]}${o.backbone === "all" ? "" : ` (from scratch: ${backboneWords.all})`}; ` +
    `SGD, lr ${o.lr}, ${o.schedule === "cosine" ? "cosine" : `a tenth after ${o.milestones.map((m) => `${Math.round(100 * m)} %`).join(" and ")}`}, ` +
    `decay ${o.weightDecay}, ${o.epochs} epochs, batch ${o.batchSize}; whole images ${o.fit === "keep" ? "within" : "squashed to"} ${o.height} × ${o.width}, flips; last epoch`,
  async open(root, o) {
    const data = openDetection(root, o);
    // before the training, which a bad test file would end only after hours
    for (const images of [data.train, data.test]) await checkSizes(images);
    await checkReadable(resizedImages(data.test, o, o.fit));
    return data;
  },
  async evaluate({ engine, network, data, say }, o) {
    const options: DetectorOptions & DetectionLimits = { ...o, info: network.info, classes: data.classes.length };
    const tensors = await trained(engine, network, data, o, say);
    const model = detectorModel(options, tensors, {
      classes: JSON.stringify(data.classes),
      view: JSON.stringify({ height: o.height, width: o.width, fit: o.fit }),
    });
    const found = await detected(engine, model, data.test, network.info.mean, o);
    const result = cocoEval(data.test.truth, found, { iouType: "bbox" });
    const [AP, AP50, AP75] = [...result.stats].map(percent) as [number, number, number];
    const { voc } = data.test;
    const byVoc = voc && vocEval(voc, vocDetections(found, [...voc.keys()], data.classes)).map;
    return {
      metrics: { AP, AP50, AP75, ...(byVoc !== undefined && { vocAP50: byVoc }) },
      perClass: Object.fromEntries(perClass(result).map((c) => [c.name, percent(c.AP)])),
      model,
      picture: () => detectionPicture(data, found),
      results: () => resultsOf(found, data),
    };
  },
};

/** COCO's −1, where no object counts, is no number of per cent. */
const percent = (share: number): number => (share < 0 ? NaN : 100 * share);

/** The step that a judge with these options trains by. */
export function stepOf(
  dialect: Dialect,
  info: EncoderInfo,
  { classes, train }: Pick<DetectionData, "classes" | "train">,
  o: DetectionJudgeOptions,
): TrainingStep {
  return detectionStep({
    ...o,
    dialect,
    info,
    classes: classes.length,
    batchSize: Math.min(o.batchSize, train.files.length),
    objects: train.objects.reduce((most, own) => Math.max(most, own.length), 0),
    optimizer: sgd as never,
    optimizerOptions: { ...sgd.defaults, weightDecay: o.weightDecay },
  });
}

async function trained(
  engine: NativeEngine,
  { info, tensors }: Network,
  data: DetectionData,
  o: DetectionJudgeOptions,
  say: (line: string) => void,
): Promise<Tensors> {
  const { sizes, objects } = data.train;
  const step = stepOf(engine.dialect, info, data, o);
  const [batchSize, places] = step.inputs[1]!.shape as [number, number];
  const given = Object.fromEntries(Object.entries(tensors).map(([name, t]) => [`backbone.body.${name}`, t]));
  const session = await openStep(engine, step, o.seed, given);
  const images = await cached(resizedImages(data.train, o, o.fit), "memory");
  async function* batches(): AsyncGenerator<Prepared, never> {
    const { from } = loader(images, {
      batchSize,
      seed: o.seed,
      onBroken: (key, reason) => say(`${key} cannot be read and is left out: ${reason}`),
    });
    for await (const { epoch, batch, indices, images: seen } of from(0, 0)) {
      const flips = seen.map((_, i) => random(o.seed, "flip", epoch, batch, i).uniform() < o.flip);
      const own = indices.map((k, i) => moved(objects[k]!, sizes[k]!, seen[i]!, flips[i]!));
      const inputs = { image: viewsOf(seen, flips, o, info.mean), ...placed(own, places) };
      yield { epoch, batch, inner: 0, inputs };
    }
    throw new Error("The batches ended.");
  }
  try {
    await train({
      session,
      batches: batches(),
      scalars: { lr: scheduleOf(o) },
      startStep: 0,
      stepsPerEpoch: Math.floor(images.length / batchSize),
      epochs: o.epochs,
      onEpoch: (epoch) => {
        const { loss, classification, regression, centerness } = session.metrics() as Record<string, number>;
        const parts = [classification, regression, centerness].map((v) => v!.toFixed(3)).join(" + ");
        say(`epoch ${epoch}/${o.epochs}: loss ${loss!.toFixed(3)} = ${parts} (classes, boxes, centerness)`);
      },
    });
    return session.tensors();
  } finally {
    session.release();
  }
}

export const scheduleOf = ({ schedule, lr, milestones, warmupEpochs, epochs }: DetectionJudgeOptions): Schedule =>
  schedule === "cosine"
    ? { schedule, peak: lr, warmupEpochs }
    : { schedule, peak: lr, warmupEpochs, milestones: milestones.map((m) => Math.round(m * epochs)) };
