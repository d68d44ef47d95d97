/**
 * BagSSL has no official code: the recipe is that of its co-author's two-view coding rate (zengyi-li/NMCE-release, README for
 * CIFAR-10) on patches of EMP-SSL's scale. And a small one. Images are judged as bags of patches.
 */
import { anchor, updates, type Listed } from "./listed.js";

const paper = "Chen et al., TMLR 2023, arXiv 2206.08954";

export const bagsslRecipes = {
  "bagssl-r18-cifar10": {
    paper,
    cost: updates(28_800),
    recipe: {
      summary: "BagSSL with coding rate, ResNet-18, two patches of each image, CIFAR-10, 600 epochs",
      data: { name: "cifar10", size: 32, shortSide: 32 },
      backbone: { name: "resnet18", stem: "cifar" },
      method: { name: "bagssl" },
      optimizer: {
        name: "lars",
        weightDecay: 1e-4,
        trustCoefficient: 0.02,
        separateNorms: true,
        clipRate: true,
        lr: { schedule: "cosine", peak: 0.3, warmupEpochs: 10, per: "epoch" },
      },
      batchSize: 1024,
      epochs: 600,
      pixels: "pil",
      evaluate: { everyEpochs: 50, patches: 16 },
    },
  },
  "bagssl-r18w16-cifar10": {
    paper,
    cost: "67 minutes, one thread of a busy machine",
    expected: "kNN top1 51.6, one seed (at the start 30.9, raw pixels 39.6)",
    recipe: {
      ...anchor({ name: "bagssl", patches: 4, hiddenDim: 256, outDim: 128, view: { blur: null } }),
      summary: "BagSSL with coding rate, ResNet-18 of width 16, 4 patches of each of 10,000 images of CIFAR-10",
      evaluate: { everyEpochs: 5, patches: 16 },
    },
  },
} satisfies Record<string, Listed>;
