/**
 * npm run bench -- segmentation --data CAMVID [--seed 0] [--epochs 10] [--side diptych|torch]: the segmentation judge, and torchvision's
 * ResNet-18 with the same head from the same initial weights, in the same order, with the same flips and rates. Decoding, resizing
 * and scoring are each side's own; both run on one thread, each in a process of its own. A JSON line a side.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { segmentation, type SegmentationJudgeOptions } from "../evaluators/segmentation/index.js";
import { byShortSide, drawCut } from "../evaluators/segmentation/views.js";
import { initialWeights, type EncoderInfo } from "../graphs/encoder.js";
import { segmentationStep } from "../graphs/segmentation.js";
import { writeSafetensors } from "../src/artifacts/safetensors.js";
import { epochOrder } from "../src/data/loader.js";
import { openEngine } from "../src/engines/native/index.js";
import { random } from "../src/random.js";
import { trainingLibrary } from "../src/runtimes.js";
import { scheduled } from "../src/schedules.js";
import { initialTensors } from "../src/step.js";
import { imagenetStatistics } from "../src/views.js";
import { python } from "./venv.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const info: EncoderInfo = {
  backbone: "resnet18",
  options: {},
  size: 224,
  resize: 256,
  ...imagenetStatistics,
  method: "none",
  recipe: "none",
};
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

const print = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);

/** The judge, as `evaluate segmentation` runs it; the first epoch is not timed. */
async function ours(data: string, o: SegmentationJudgeOptions): Promise<void> {
  const engine = openEngine({ library: await trainingLibrary(), name: "training", threads: 1 });
  const opened = await segmentation.open(data, o);
  const marks: { wall: number; cpu: number }[] = [];
  const { metrics } = await segmentation.evaluate(
    {
      engine,
      network: { info, tensors: initialWeights(info, o.seed) },
      data: opened,
      say: (line) => {
        const { user, system } = process.cpuUsage();
        marks.push({ wall: performance.now() / 1000, cpu: (user + system) / 1e6 });
        process.stderr.write(`${line}\n`);
      },
    },
    o,
  );
  const images = (marks.length - 1) * o.batchSize * Math.floor(opened.train.images.length / o.batchSize);
  const spent = (what: "wall" | "cpu"): number => marks.at(-1)![what] - marks[0]![what];
  print({
    side: "diptych",
    seed: o.seed,
    mIoU: metrics.mIoU,
    pixelAccuracy: metrics.pixelAccuracy,
    img_s: images / spent("wall"),
    img_cpu_s: images / spent("cpu"),
    rss_mb_peak: Math.round(process.resourceUsage().maxRSS / 1024),
  });
}

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
  const given = Object.entries(initialWeights(info, o.seed)).map(([name, t]) => [`backbone.${name}`, t] as const);
  const initial = initialTensors(step, o.seed, Object.fromEntries(given));
  const n = train.images.length;
  const stepsPerEpoch = Math.floor(n / o.batchSize);
  const steps = Array.from({ length: o.epochs * stepsPerEpoch }, (_, s) => {
    const [epoch, batch] = [Math.floor(s / stepsPerEpoch), s % stepsPerEpoch];
    const indices = [...epochOrder(o.seed, epoch, n).subarray(batch * o.batchSize, (batch + 1) * o.batchSize)];
    const cutting = { ...o, ratio: [1, 1] as const, resized: byShortSide(o.shortSide), crop: { height, width } };
    const size = { height: 360, width: 480 };
    const flips = indices.map((_, i) => drawCut(random(o.seed, "cut", epoch, batch, i), size, cutting).flip);
    const lr = scheduled({ schedule: "poly", peak: o.lr, end: 1e-4 }, s, { stepsPerEpoch, epochs: o.epochs });
    return { indices, flips, lr };
  });
  const keys = ({ images }: typeof train) => Array.from({ length: images.length }, (_, i) => images.key(i));
  const folder = mkdtempSync(join(tmpdir(), "segmentation-"));
  const weights = Object.entries(initial).filter(([name]) => !name.startsWith("optimizer."));
  writeFileSync(join(folder, "initial.safetensors"), writeSafetensors(Object.fromEntries(weights)));
  const plan = { options: o, classes: classes.length, stepsPerEpoch, steps, train: keys(train), test: keys(test) };
  writeFileSync(join(folder, "plan.json"), JSON.stringify(plan));
  execFileSync(python(), [join(root, "bench/python/segmentation.py"), folder], {
    stdio: "inherit",
    env: { ...process.env, OMP_NUM_THREADS: "1" },
  });
  rmSync(folder, { recursive: true });
}

export async function main(args: string[]): Promise<void> {
  const { data, seed, epochs, side } = parseArgs({
    args,
    options: {
      data: { type: "string" },
      seed: { type: "string", default: "0" },
      epochs: { type: "string", default: "10" },
      side: { type: "string" },
    },
  }).values;
  if (!data) throw new Error("Which data? --data FOLDER in CamVid's layout.");
  const options = optionsOf(Number(seed), Number(epochs));
  if (side === "diptych") return ours(data, options);
  if (side === "torch") return torch(data, options);
  for (const one of ["diptych", "torch"])
    execFileSync(process.execPath, [join(root, "dist/bench/index.js"), "segmentation", ...args, "--side", one], {
      stdio: "inherit",
    });
}
