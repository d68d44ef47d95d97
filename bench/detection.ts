/**
 * npm run bench -- detection --data BCCD [--seed 0] [--epochs 12] [--side diptych|torch]: the detection judge, and torchvision's FCOS on its
 * ResNet-18 with FPN from the same initial weights, on the same resized images in the same order, with the same flips and rates. The judge's AP
 * is ours, the peer's pycocotools'; both run on one thread, each in a process of its own. A JSON line a side.
 */
import { detection, scheduleOf, stepOf, type DetectionJudgeOptions } from "../evaluators/detection/index.js";
import { resizedImages, type BoxedImages } from "../evaluators/detection/folder.js";
import { moved } from "../evaluators/detection/views.js";
import { writeSafetensors } from "../src/artifacts/safetensors.js";
import { random } from "../src/random.js";
import { scheduled } from "../src/schedules.js";
import { zeros, type Tensor } from "../src/tensor.js";
import { compare, info, plannedSteps, runPeer, timed } from "./transfer.js";

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

/** All images of a split, uint8 [N,3,H,W]. */
async function pixels(split: BoxedImages, o: DetectionJudgeOptions): Promise<Tensor> {
  const images = resizedImages(split, o, o.fit);
  const out = zeros("uint8", [images.length, 3, o.height, o.width]);
  for (let i = 0; i < images.length; i++) out.data.set((await images.image(i)).data, i * 3 * o.height * o.width);
  return out;
}

/** The peer, told what to start from and what to do at every step. */
async function torch(folder: string, o: DetectionJudgeOptions): Promise<void> {
  const data = await detection.open(folder, o);
  const { train, test, classes } = data;
  const planned = plannedSteps(train.files.length, o, ({ s, epoch, batch, indices, stepsPerEpoch }) => ({
    flips: indices.map((_, i) => random(o.seed, "flip", epoch, batch, i).uniform() < o.flip),
    lr: scheduled(scheduleOf(o), s, { stepsPerEpoch, epochs: o.epochs }),
  }));
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
  const images = { train: await pixels(train, o), test: await pixels(test, o) };
  const { mean, std } = info;
  const files = {
    "images.safetensors": writeSafetensors(images),
    "truth.json": JSON.stringify(ground),
    "plan.json": JSON.stringify({ options: o, mean, std, classes: classes.length, ...planned, objects }),
  };
  const packages = { torch: "torch", torchvision: "torchvision", pycocotools: "pycocotools" };
  runPeer("detection", stepOf("training", info, data, o), o.seed, "backbone.body", files, packages);
}

export const main = (args: string[]): Promise<void> =>
  compare("detection", args, "in VOC's layout, images of one size.", 12, {
    diptych: (data, seed, epochs) =>
      timed(detection, data, optionsOf(seed, epochs), (d) => d.train.files.length, ["AP", "AP50", "AP75", "vocAP50"]),
    torch: (data, seed, epochs) => torch(data, optionsOf(seed, epochs)),
  });
