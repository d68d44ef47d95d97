/** Fine-tuning: the whole network trained on with labels. The recipe is that of APS (arXiv 2306.02854), without RandAugment and erasing. */
import { augmentation, draw } from "../graphs/augment.js";
import type { EncoderInfo } from "../graphs/encoder.js";
import { adamw } from "../graphs/optimizers.js";
import { scoresModel } from "../graphs/places.js";
import { classifierModel, finetuneStep } from "../graphs/finetune.js";
import { augmenter } from "../src/data/augmenter.js";
import { loader } from "../src/data/loader.js";
import { releaseAll } from "../src/engines/index.js";
import type { NativeEngine } from "../src/engines/native/index.js";
import { random, type Random } from "../src/random.js";
import { scalar, zeros, type Tensors } from "../src/tensor.js";
import { train, type Prepared } from "../src/train.js";
import type { Channels, ViewSpec } from "../src/views.js";
import { accuracyOf, type Evaluator, type LabelledImages, type Metrics } from "./evaluator.js";
import { extractFeatures, imageBatches, seenBy, matrix, vector } from "./features.js";
import { openStep } from "./heads.js";
import { dividedByClass, shareOf, imagesAt, testShare } from "./split.js";

export interface FinetuneOptions {
  /** At batchSize 512, scaled by batchSize/512: APS has 2e-3 for ViT-Tiny, 1e-3 for Small, 5e-4 for Base. */
  lr: number;
  epochs: number;
  warmupEpochs: number;
  batchSize: number;
  /** Not on biases, norms, positions and the class token. */
  weightDecay: number;
  /** Each layer's rate over that of the one above: 0.65–0.75 in BEiT and MAE; 1, as APS' code, for none. */
  layerDecay: number;
  labelSmoothing: number;
  /** Beta(α, α) of the mixing share; 0 for none. Where both are on, each batch takes either with equal chance. */
  mixup: number;
  cutmix: number;
  /** Smallest share of the area that RandomResizedCrop keeps. */
  cropScale: number;
  seed: number;
}

export const finetune: Evaluator<FinetuneOptions> = {
  summary: "The whole network trained on with labels: AdamW, layer-wise decay, mixup, CutMix, label smoothing",
  defaults: {
    lr: 1e-3,
    epochs: 100,
    warmupEpochs: 5,
    batchSize: 128,
    weightDecay: 0.05,
    layerDecay: 0.75,
    labelSmoothing: 0.1,
    mixup: 0.8,
    cutmix: 1,
    cropScale: 0.35,
    seed: 0,
  },
  counts: ["epochs", "batchSize"],
  fromScratch: { layerDecay: 1 },
  judges: "network",
  protocol: (o) =>
    `AdamW, lr ${o.lr} at batch 512, ${o.epochs} epochs, batch ${o.batchSize}, layer decay ${o.layerDecay} (from scratch: 1), label smoothing ${o.labelSmoothing}, ` +
    `mixup ${o.mixup}, CutMix ${o.cutmix}, crops of ${o.cropScale}–1 and flips; BatchNorm trains on; last epoch`,
  async evaluate(subject, o) {
    const { engine, classes, network } = subject;
    const { info, tensors } = network!;
    const [learn, asked] = subject.test ? [subject.train, subject.test] : heldOut(subject.train, o.seed);
    const step = finetuneStep({
      dialect: engine.dialect,
      info,
      classes: classes.length,
      batchSize: Math.min(o.batchSize, learn.images.length),
      labelSmoothing: o.labelSmoothing,
      layerDecay: o.layerDecay,
      optimizer: adamw as never,
      optimizerOptions: (name) => ({
        ...adamw.defaults,
        weightDecay: /\.(pos_embed\w*|cls_token)$/.test(name) ? 0 : o.weightDecay,
      }),
    });
    const batchSize = step.inputs[0]!.shape[1] as number;
    const given = Object.fromEntries(Object.entries(tensors).map(([name, t]) => [`backbone.${name}`, t]));
    const session = await openStep(engine, step, o.seed, given);
    let trained: Tensors;
    try {
      await train({
        session,
        batches: mixedBatches(engine, learn, info, batchSize, o),
        scalars: {
          lr: {
            schedule: "cosine",
            peak: (o.lr * batchSize) / 512,
            end: 1e-6,
            warmupEpochs: Math.min(o.warmupEpochs, o.epochs / 2),
            warmupStart: 1e-6,
          },
        },
        startStep: 0,
        stepsPerEpoch: Math.floor(learn.images.length / batchSize),
        epochs: o.epochs,
        onEpoch: (epoch) => subject.say(`epoch ${epoch}/${o.epochs}: loss ${session.metrics().loss!.toFixed(4)}`),
      });
      trained = session.tensors();
    } finally {
      session.release();
    }
    return accuracyOn(engine, classifierModel(info, classes.length, trained), asked, info, classes.length);
  },
};

/** A fifth of every class set aside for the test. */
function heldOut(all: LabelledImages, seed: number): [LabelledImages, LabelledImages] {
  const { part, rest } = dividedByClass(all.labels, shareOf(testShare), seed, "test");
  return [imagesAt(all, rest), imagesAt(all, part)];
}

async function accuracyOn(
  engine: NativeEngine,
  model: Uint8Array,
  { images, labels }: LabelledImages,
  info: EncoderInfo,
  classes: number,
) {
  const logits = await extractFeatures(engine, model, imageBatches(engine, images, seenBy(info)), images.length);
  const session = await engine.session(scoresModel(classes));
  const { places } = await session.run({ scores: matrix(logits), labels: vector(labels) });
  session.release();
  return { ...accuracyOf(places!.data as Float32Array) } satisfies Metrics;
}

/** Augmented views with labels, and how each batch is mixed: a function of (seed, epoch, batch). */
async function* mixedBatches(
  engine: NativeEngine,
  { images, labels }: LabelledImages,
  { size, mean, std }: EncoderInfo,
  batchSize: number,
  o: FinetuneOptions,
): AsyncGenerator<Prepared, never> {
  const view: ViewSpec = {
    name: "view",
    count: 1,
    channels: mean.length as Channels,
    size,
    crop: { scale: [o.cropScale, 1] },
    flip: 0.5,
    normalize: { mean, std },
  };
  const aug = augmenter(engine, () => augmentation(view, "float"));
  try {
    for await (const { epoch, batch, indices, images: decoded } of loader(images, { batchSize, seed: o.seed }).from(
      0,
      0,
    )) {
      const views = await aug.batch(decoded, [view], (_view, _copy, i) =>
        draw(random(o.seed, "augment", epoch, batch, i), decoded[i]!, view),
      );
      const own = Int32Array.from(indices, (i) => labels[i]!);
      const mix = mixing(random(o.seed, "mix", epoch, batch), size, o);
      const inputs = { ...views, labels: vector(own), ...mix };
      yield { epoch, batch, inner: 0, inputs, release: () => releaseAll(views) };
    }
    throw new Error("The batches ended.");
  } finally {
    aug.release();
  }
}

/** The mask and share of one batch (timm's Mixup, mode "batch"). */
function mixing(r: Random, size: number, { mixup, cutmix }: FinetuneOptions): Tensors {
  const mask = zeros("float32", [1, 1, size, size]);
  const cuts = cutmix > 0 && (mixup <= 0 || r.uniform() < 0.5);
  const alpha = cuts ? cutmix : mixup;
  const share = alpha > 0 ? beta(r, alpha) : 1;
  mask.data.fill(cuts ? 1 : share);
  if (!cuts) return { mask, share: scalar(share) };
  const side = Math.floor(size * Math.sqrt(1 - share));
  const [top, left] = [r.integer(size) - (side >> 1), r.integer(size) - (side >> 1)];
  const inside = (from: number): [number, number] => [Math.max(0, from), Math.min(size, from + side)];
  const [[y0, y1], [x0, x1]] = [inside(top), inside(left)];
  for (let y = y0; y < y1; y++) mask.data.fill(0, y * size + x0, y * size + x1);
  return { mask, share: scalar(1 - (Math.max(0, y1 - y0) * Math.max(0, x1 - x0)) / size ** 2) }; // the area that is left
}

/** Beta(α, α) by Jöhnk's method (1964): u^(1/α)/(u^(1/α) + v^(1/α)) where the sum is at most 1. */
function beta(r: Random, alpha: number): number {
  for (;;) {
    const [u, v] = [r.uniform() ** (1 / alpha), r.uniform() ** (1 / alpha)];
    if (u + v <= 1 && u + v > 0) return u / (u + v);
  }
}
