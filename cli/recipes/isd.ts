/** ISD: the paper's recipes (README of UMBCvision/ISD), and a small one. */
import { anchor, anchorView, updates, type Listed } from "./listed.js";
import type { RecipeInput } from "./schema.js";

const paper = "Tejankar et al., ICCV 2021, arXiv 2012.09259";
const common = {
  data: { name: "imageFolder", size: 224 },
  batchSize: 256,
  epochs: 200,
  pixels: "pil",
  evaluate: { everyEpochs: 20 },
} satisfies Partial<RecipeInput>;

export const isdRecipes = {
  "isd-r50-imagenet": {
    paper,
    cost: "about 140 h on 4 RTX 6000 (the same group's MSF, the same loop)",
    recipe: {
      ...common,
      summary: "ISD plus, ResNet-50, 224 px, ImageNet, 200 epochs",
      backbone: { name: "resnet50" },
      method: { name: "isd", queueSize: 128_000 },
      optimizer: { name: "sgd", lr: { schedule: "cosine", peak: 0.05, per: "epoch" } },
    },
  },
  "isd-r18-imagenet": {
    paper,
    cost: updates(1_000_800),
    recipe: {
      ...common,
      summary: "ISD v1 as released, ResNet-18, 224 px, ImageNet, 200 epochs",
      backbone: { name: "resnet18" },
      method: {
        name: "isd",
        variant: "v1",
        faithful: true,
        queueSize: 128_000,
        studentTemp: 0.02,
        teacherTemp: 0.02,
        momentum: 0.999,
        augmentation: "strong/strong",
      },
      optimizer: { name: "sgd", lr: { schedule: "step", peak: 0.01, milestones: [140, 180], gamma: 0.2 } },
    },
  },
  "isd-r18w16-cifar10": {
    paper,
    cost: "19 minutes, one thread of a busy machine",
    expected: "kNN top1 37.2, one seed (at the start 30.1, raw pixels 39.3)",
    recipe: {
      ...anchor({ name: "isd", bnGroups: 1, view: anchorView }),
      summary: "ISD plus without shuffle-BN, ResNet-18 of width 16, 10,000 images of CIFAR-10",
    },
  },
} satisfies Record<string, Listed>;
