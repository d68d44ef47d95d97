/** VICReg: the paper's recipe (facebookresearch/vicreg), and a small one. */
import { anchor, anchorView, updates, type Listed } from "./listed.js";

const paper = "Bardes et al., ICLR 2022, arXiv 2105.04906";

export const vicregRecipes = {
  "vicreg-r50-imagenet": {
    paper,
    cost: updates(625_000),
    recipe: {
      summary: "VICReg, ResNet-50, 224 px, ImageNet, 1000 epochs",
      data: { name: "imageFolder", size: 224 },
      backbone: { name: "resnet50", zeroInitResidual: true },
      method: { name: "vicreg", hiddenDim: 8192, outDim: 8192 },
      optimizer: {
        name: "lars",
        weightDecay: 1e-6,
        lr: { schedule: "cosine", peak: 1.6, end: 1.6e-3, warmupEpochs: 10, warmup: "fromZero" },
      },
      batchSize: 2048,
      epochs: 1000,
      pixels: "pil",
      evaluate: { everyEpochs: 50 },
    },
  },
  "vicreg-r18w16-cifar10": {
    paper,
    cost: "22 minutes, one thread of a busy machine",
    expected: "kNN top1 45.9, one seed (at the start 30.1, raw pixels 39.3)",
    recipe: {
      ...anchor({
        name: "vicreg",
        hiddenDim: 256,
        outDim: 256,
        view: { ...anchorView, crop: { scale: [0.2, 1] } },
      }),
      summary: "VICReg, ResNet-18 of width 16, 10,000 images of CIFAR-10",
    },
  },
} satisfies Record<string, Listed>;
