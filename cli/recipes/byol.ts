/** BYOL: the paper's recipe, the asymmetric one of UMBCvision/ISD (train_byol.py), and a small one. */
import { anchor, anchorView, updates, type Listed } from "./listed.js";
import type { RecipeInput } from "./schema.js";

const paper = "Grill et al., NeurIPS 2020, arXiv 2006.07733";
const common = {
  data: { name: "imageFolder", size: 224 },
  backbone: { name: "resnet50" },
  pixels: "pil",
  evaluate: { everyEpochs: 20 },
} satisfies Partial<RecipeInput>;

export const byolRecipes = {
  "byol-r50-imagenet": {
    paper,
    cost: updates(312_000),
    recipe: {
      ...common,
      summary: "BYOL, ResNet-50, 224 px, ImageNet, 1000 epochs",
      method: { name: "byol", hiddenDim: 4096, outDim: 256 },
      optimizer: {
        name: "lars",
        weightDecay: 1.5e-6,
        lr: { schedule: "cosine", peak: 3.2, warmupEpochs: 10 },
      },
      batchSize: 4096,
      epochs: 1000,
    },
  },
  "byol-asymmetric-r50-imagenet": {
    paper,
    cost: updates(1_000_800),
    recipe: {
      ...common,
      summary: "BYOL one way, ResNet-50, 224 px, ImageNet, 200 epochs, as ISD's authors compare it",
      method: {
        name: "byol",
        symmetric: false,
        momentum: 0.99,
        hiddenDim: 4096,
        outDim: 512,
        view: { crop: { scale: [0.2, 1] } },
      },
      optimizer: { name: "sgd", lr: { schedule: "cosine", peak: 0.05, per: "epoch" } },
      batchSize: 256,
      epochs: 200,
    },
  },
  "byol-r18w16-cifar10": {
    paper,
    recipe: {
      ...anchor({
        name: "byol",
        hiddenDim: 256,
        outDim: 64,
        momentum: { schedule: "cosine", peak: 0.99, end: 1 },
        view: { ...anchorView, crop: { scale: [0.2, 1] } },
      }),
      summary: "BYOL, ResNet-18 of width 16, 10,000 images of CIFAR-10",
    },
  },
} satisfies Record<string, Listed>;
