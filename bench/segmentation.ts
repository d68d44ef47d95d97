/**
 * npm run bench -- segmentation --data CAMVID [--seed 0] [--epochs 10] [--side diptych|torch]: the segmentation judge, and torchvision's
 * ResNet-18 with the same head from the same initial weights, in the same order, with the same flips and rates. Decoding, resizing
 * and scoring are each side's own; both run on one thread, each in a process of its own. A JSON line a side.
 */
import { segmentation, type SegmentationJudgeOptions } from "../evaluators/segmentation/index.js";
import { byShortSide, drawCut } from "../evaluators/segmentation/views.js";
import { segmentationStep } from "../graphs/segmentation.js";
import { random } from "../src/random.js";
import { scheduled } from "../src/schedules.js";
import { compare, info, plannedSteps, runPeer, timed } from "./transfer.js";

const height = 96;
const width = 128;
const optionsOf = (seed: number, epochs: number): SegmentationJudgeOptions => ({
  ...segmentation.defaults,
  epochs,
  batchSize: 8,
  lr: 0.05,
  outputStride: 16,
  channels: 128,
  dropout: 0,
  shortSide: height,
  crop: [height, width],
  ratio: [1, 1],
  ignore: [11],
  seed,
});

/** The peer, told what to start from and what to do at every step. */
async function torch(data: string, o: SegmentationJudgeOptions): Promise<void> {
  const { train, test, classes } = await segmentation.open(data, o);
  const step = segmentationStep({
    ...o,
    classes: classes.length,
    dialect: "training",
    info,
    height,
    width,
    momentum: 0.9,
    ignored: 255,
  });
  const cutting = { ...o, ratio: [1, 1] as const, resized: byShortSide(o.shortSide), crop: { height, width } };
  const size = { height: 360, width: 480 };
  const planned = plannedSteps(train.images.length, o, ({ s, epoch, batch, indices, stepsPerEpoch }) => ({
    flips: indices.map((_, i) => drawCut(random(o.seed, "cut", epoch, batch, i), size, cutting).flip),
    lr: scheduled({ schedule: "poly", peak: o.lr, end: 1e-4 }, s, { stepsPerEpoch, epochs: o.epochs }),
  }));
  const keys = ({ images }: typeof train) => Array.from({ length: images.length }, (_, i) => images.key(i));
  const plan = { options: o, classes: classes.length, ...planned, train: keys(train), test: keys(test) };
  runPeer("segmentation", step, o.seed, "backbone", { "plan.json": JSON.stringify(plan) });
}

export const main = (args: string[]): Promise<void> =>
  compare("segmentation", args, "in CamVid's layout.", 10, {
    diptych: (data, seed, epochs) =>
      timed(segmentation, data, optionsOf(seed, epochs), (d) => d.train.images.length, ["mIoU", "pixelAccuracy"]),
    torch: (data, seed, epochs) => torch(data, optionsOf(seed, epochs)),
  });
