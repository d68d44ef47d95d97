/**
 * npm run bench -- detection --data BCCD [--seed 0] [--epochs 12] [--side diptych|torch]: the detection judge, and torchvision's FCOS on its
 * ResNet-18 with FPN from the same initial weights, on the same resized images in the same order, with the same flips and rates. The judge's AP
 * is ours, the peer's pycocotools'; both run on one thread, each in a process of its own. A JSON line a side.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { detection, scheduleOf, stepOf, type DetectionJudgeOptions } from "../evaluators/detection/index.js";
import { resizedImages, type BoxedImages } from "../evaluators/detection/folder.js";
import { moved } from "../evaluators/detection/views.js";
import { initialWeights, type EncoderInfo } from "../graphs/encoder.js";
import { writeSafetensors } from "../src/artifacts/safetensors.js";
import { epochOrder } from "../src/data/loader.js";
import { openEngine } from "../src/engines/native/index.js";
import { random } from "../src/random.js";
import { trainingLibrary } from "../src/runtimes.js";
import { scheduled } from "../src/schedules.js";
import { initialTensors } from "../src/step.js";
import { zeros, type Tensor } from "../src/tensor.js";
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
const optionsOf = (seed: number, epochs: number): DetectionJudgeOptions => ({
  ...detection.defaults,
  epochs,
  batchSize: 8,
  lr: 0.02,
  schedule: "cosine",
  backbone: "all",
  height: 128,
  width: 160,
  fit: "squash",
  channels: 64,
  convs: 2,
  seed,
});

const print = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);

/** The judge, as `evaluate detection` runs it; the first epoch is not timed. */
async function ours(root: string, o: DetectionJudgeOptions): Promise<void> {
  const engine = openEngine({ library: await trainingLibrary(), name: "training", threads: 1 });
  const data = await detection.open(root, o);
  const marks: { wall: number; cpu: number }[] = [];
  const { metrics } = await detection.evaluate(
    {
      engine,
      network: { info, tensors: initialWeights(info, o.seed) },
      data,
      say: (line) => {
        const { user, system } = process.cpuUsage();
        marks.push({ wall: performance.now() / 1000, cpu: (user + system) / 1e6 });
        process.stderr.write(`${line}\n`);
      },
    },
    o,
  );
  const images = (marks.length - 1) * o.batchSize * Math.floor(data.train.files.length / o.batchSize);
  const spent = (what: "wall" | "cpu"): number => marks.at(-1)![what] - marks[0]![what];
  print({
    side: "diptych",
    seed: o.seed,
    ...metrics,
    img_s: images / spent("wall"),
    img_cpu_s: images / spent("cpu"),
    rss_mb_peak: Math.round(process.resourceUsage().maxRSS / 1024),
  });
}

/** All images of a split, uint8 [N,3,H,W]. */
async function pixels(split: BoxedImages, o: DetectionJudgeOptions): Promise<Tensor> {
  const images = resizedImages(split, o, o.fit);
  const out = zeros("uint8", [images.length, 3, o.height, o.width]);
  for (let i = 0; i < images.length; i++) out.data.set((await images.image(i)).data, i * 3 * o.height * o.width);
  return out;
}

/** The peer, told what to start from and what to do at every step. */
async function torch(folderOfData: string, o: DetectionJudgeOptions): Promise<void> {
  const data = await detection.open(folderOfData, o);
  const { train, test, classes } = data;
  const n = train.files.length;
  const step = stepOf("training", info, data, o);
  const given = Object.entries(initialWeights(info, o.seed)).map(([name, t]) => [`backbone.body.${name}`, t] as const);
  const initial = initialTensors(step, o.seed, Object.fromEntries(given));
  const stepsPerEpoch = Math.floor(n / o.batchSize);
  const steps = Array.from({ length: o.epochs * stepsPerEpoch }, (_, s) => {
    const [epoch, batch] = [Math.floor(s / stepsPerEpoch), s % stepsPerEpoch];
    const indices = [...epochOrder(o.seed, epoch, n).subarray(batch * o.batchSize, (batch + 1) * o.batchSize)];
    const flips = indices.map((_, i) => random(o.seed, "flip", epoch, batch, i).uniform() < o.flip);
    return { indices, flips, lr: scheduled(scheduleOf(o), s, { stepsPerEpoch, epochs: o.epochs }) };
  });
  const objects = train.objects.map((own, i) => moved(own, train.sizes[i]!, o, false));
  const { truth } = test;
  const ground = {
    images: Array.from(truth.images.id, (id, i) => ({ id, ...test.sizes[i] })),
    categories: truth.categories,
    annotations: Array.from(truth.id, (id, k) => ({
      id,
      image_id: truth.images.id[truth.image[k]!],
      category_id: truth.categories[truth.category[k]!]!.id,
      bbox: [...truth.boxes!.subarray(4 * k, 4 * k + 4)],
      area: truth.area[k],
      iscrowd: truth.crowd[k],
    })),
  };
  const folder = mkdtempSync(join(tmpdir(), "detection-"));
  const weights = Object.entries(initial).filter(([name]) => !name.startsWith("optimizer."));
  writeFileSync(join(folder, "initial.safetensors"), writeSafetensors(Object.fromEntries(weights)));
  const images = { train: await pixels(train, o), test: await pixels(test, o) };
  writeFileSync(join(folder, "images.safetensors"), writeSafetensors(images));
  writeFileSync(join(folder, "truth.json"), JSON.stringify(ground));
  const { mean, std } = info;
  const plan = { options: o, mean, std, classes: classes.length, stepsPerEpoch, steps, objects };
  writeFileSync(join(folder, "plan.json"), JSON.stringify(plan));
  const packages = { torch: "torch", torchvision: "torchvision", pycocotools: "pycocotools" };
  execFileSync(python(packages), [join(root, "bench/python/detection.py"), folder], {
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
      epochs: { type: "string", default: "12" },
      side: { type: "string" },
    },
  }).values;
  if (!data) throw new Error("Which data? --data FOLDER in VOC's layout, images of one size.");
  const options = optionsOf(Number(seed), Number(epochs));
  if (side === "diptych") return ours(data, options);
  if (side === "torch") return torch(data, options);
  for (const one of ["diptych", "torch"])
    execFileSync(process.execPath, [join(root, "dist/bench/index.js"), "detection", ...args, "--side", one], {
      stdio: "inherit",
    });
}
