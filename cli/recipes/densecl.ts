/** DenseCL: the paper's recipes (configs of WXinlong/DenseCL), and small ones. */
import { anchor, anchorView, type Listed } from "./listed.js";
import type { RecipeInput } from "./schema.js";

const paper = "Wang et al., CVPR 2021, arXiv 2011.09157";
const published = (lr: number, epochs: number, summary: string): RecipeInput => ({
  summary,
  data: { name: "imageFolder", size: 224 },
  backbone: { name: "resnet50", init: "fan_in" },
  method: { name: "densecl", queueSize: 65536, hiddenDim: 2048, bnGroups: 8 },
  optimizer: { name: "sgd", lr: { schedule: "cosine", peak: lr, per: "epoch" } },
  batchSize: 256,
  epochs,
  pixels: "pil",
  evaluate: { everyEpochs: 20 },
});

export const denseclRecipes = {
  "densecl-r50-imagenet": {
    paper,
    cost: "the authors': 2.3 days on 8 V100",
    recipe: published(0.03, 200, "DenseCL, ResNet-50, 224 px, ImageNet, 200 epochs"),
  },
  "densecl-r50-coco": {
    paper,
    cost: "the authors': 1.0 day on 8 V100",
    recipe: published(0.3, 800, "DenseCL, ResNet-50, 224 px, COCO train2017, 800 epochs"),
  },
  "densecl-r18w16-cifar10": {
    paper,
    cost: "20 minutes, one thread of a busy machine",
    expected: "kNN top1 43.7, one seed (at the start 30.1, raw pixels 39.3)",
    recipe: {
      ...anchor({
        name: "densecl",
        queueSize: 4096,
        momentum: 0.99,
        hiddenDim: 128,
        bnGroups: 1,
        view: anchorView,
      }),
      summary: "DenseCL without shuffle-BN on 4 × 4 cells, ResNet-18 of width 16, 10,000 images of CIFAR-10",
    },
  },
  "densecl-r18-64": {
    paper: "Wang et al., CVPR 2021, arXiv 2011.09157",
    recipe: {
      summary: "DenseCL, ResNet-18 with the CIFAR stem, 64 px, any folder of images",
      data: { name: "imageFolder", size: 64 },
      backbone: { name: "resnet18", stem: "cifar", width: 32, init: "fan_in" },
      method: { name: "densecl", queueSize: 4096, momentum: 0.99, hiddenDim: 256 },
      optimizer: { name: "sgd", lr: { schedule: "cosine", peak: 0.06 } },
      batchSize: 64,
      epochs: 100,
      evaluate: { everyEpochs: 10 },
    },
  },
} satisfies Record<string, Listed>;
