/** MoCo-v3: the authors' ImageNet recipes (facebookresearch/moco-v3, CONFIG.md), and a small one. */
import { anchor, anchorView, updates, type Listed } from "./listed.js";
import type { RecipeInput } from "./schema.js";

const paper = "Chen et al., ICCV 2021, arXiv 2104.02057";
const common = {
  data: { name: "imageFolder", size: 224 },
  batchSize: 4096,
  pixels: "pil",
  evaluate: { everyEpochs: 20 },
} satisfies Partial<RecipeInput>;

/** The authors' run of ResNet-50 on ImageNet, whatever its loss. */
export const resnet50OnImagenet = {
  ...common,
  backbone: { name: "resnet50", zeroInitResidual: true },
  optimizer: {
    name: "lars",
    weightDecay: 1.5e-6,
    lr: { schedule: "cosine", peak: 4.8, warmupEpochs: 10, warmup: "fromZero" },
  },
  epochs: 1000,
} satisfies Partial<RecipeInput>;

/** And that of ViT-B/16. */
export const vitBaseOnImagenet = {
  ...common,
  optimizer: {
    name: "adamw",
    weightDecay: 0.1,
    exclude: "none",
    lr: { schedule: "cosine", peak: 2.4e-3, warmupEpochs: 40, warmup: "fromZero" },
  },
  epochs: 300,
} satisfies Partial<RecipeInput>;

export const mocov3Recipes = {
  "mocov3-vitb-imagenet": {
    paper,
    cost: updates(93_600),
    recipe: {
      ...vitBaseOnImagenet,
      summary: "MoCo-v3, ViT-B/16, 224 px, ImageNet, 300 epochs",
      backbone: { name: "mocoVitBase", stopGradConv1: true },
      method: { name: "mocov3", hiddenDim: 4096, outDim: 256 },
    },
  },
  "mocov3-r50-imagenet": {
    paper,
    cost: updates(312_000),
    recipe: {
      ...resnet50OnImagenet,
      summary: "MoCo-v3, ResNet-50, 224 px, ImageNet, 1000 epochs",
      method: {
        name: "mocov3",
        temperature: 1,
        momentum: { schedule: "cosine", peak: 0.996, end: 1 },
        hiddenDim: 4096,
        outDim: 256,
        projectorLayers: 2,
        predictorNorm: false,
        view: { crop: { scale: [0.2, 1] } },
      },
    },
  },
  "mocov3-vit4-cifar10-small": {
    paper,
    cost: "59 minutes, one thread of a busy machine",
    expected: "kNN top1 40.8, one seed (at the start 31.6, raw pixels 39.3)",
    recipe: {
      ...anchor({
        name: "mocov3",
        hiddenDim: 256,
        outDim: 64,
        view: { ...anchorView, crop: { scale: [0.2, 1] } },
      }),
      summary: "MoCo-v3, a ViT of width 96 and patch 4 with a fixed projection, 10,000 images of CIFAR-10",
      backbone: {
        name: "mocoVitSmall",
        embedDim: 96,
        depth: 6,
        numHeads: 3,
        patchSize: 4,
        stopGradConv1: true,
      },
      optimizer: {
        name: "adamw",
        weightDecay: 0.1,
        exclude: "none",
        lr: { schedule: "cosine", peak: 1e-3, warmupEpochs: 2 },
      },
    },
  },
} satisfies Record<string, Listed>;
