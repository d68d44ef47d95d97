/** EMP-SSL: the authors' recipes (tsb0601/EMP-SSL main.py and README), and a small one. Images are judged as bags of patches. */
import { anchor, updates, type Listed } from "./listed.js";
import type { RecipeInput } from "./schema.js";

const paper = "Tong et al., 2023, arXiv 2304.03977";
const released = {
  method: { name: "tcr", faithful: true },
  optimizer: {
    name: "lars",
    nesterov: true,
    weightDecay: 1e-4,
    trustCoefficient: 0.005,
    separateNorms: true,
    clipRate: true,
    lr: { schedule: "cosine", peak: 0.3 },
  },
  batchSize: 100,
  pixels: "pil",
} satisfies Partial<RecipeInput>;

export const tcrRecipes = {
  "tcr-r18-cifar10": {
    paper,
    cost: updates(15_000),
    recipe: {
      ...released,
      summary: "EMP-SSL as released, ResNet-18, 20 patches of each image, CIFAR-10, 30 epochs",
      data: { name: "cifar10", size: 32, shortSide: 32 },
      backbone: { name: "resnet18", stem: "cifar" },
      epochs: 30,
      evaluate: { everyEpochs: 10, patches: 128 },
    },
  },
  "tcr-r18-imagenet100": {
    paper,
    cost: updates(12_660),
    recipe: {
      ...released,
      summary: "EMP-SSL as released, ResNet-18, 20 patches of each image, ImageNet-100, 10 epochs",
      data: { name: "imageFolder", size: 224 },
      backbone: { name: "resnet18" },
      method: {
        name: "tcr",
        faithful: true,
        view: { crop: { scale: [0.25, 0.25], ratio: [3 / 4, 4 / 3], interpolation: "bicubic" } },
      },
      epochs: 10,
      evaluate: { everyEpochs: 5, patches: 128 },
    },
  },
  "tcr-r18w16-cifar10": {
    paper,
    recipe: {
      ...anchor({
        name: "tcr",
        faithful: true,
        patches: 8,
        hiddenDim: 256,
        outDim: 128,
        view: { blur: null },
      }),
      summary: "EMP-SSL, ResNet-18 of width 16, 8 patches of each of 10,000 images of CIFAR-10",
      epochs: 5,
      evaluate: { everyEpochs: 5, patches: 16 },
    },
  },
} satisfies Record<string, Listed>;
