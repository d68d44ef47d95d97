/** CACR: the authors' recipes (READMEs of JegZheng/CACR-SSL) in its three forms, and small ones. */
import { cifarStatistics } from "../../src/views.js";
import { anchor, anchorView, updates, type Listed } from "./listed.js";
import { resnet50OnImagenet, vitBaseOnImagenet } from "./mocov3.js";
import type { MethodInput, RecipeInput } from "./schema.js";

const paper = "Zheng et al., TMLR 2023, arXiv 2105.03746";
/** small_scale_experiments: batch 128, five views, SGD, the rate divided by 10 three times. */
const small = {
  backbone: { name: "smallAlexNet" },
  optimizer: { name: "sgd", lr: { schedule: "step", peak: 0.06, milestones: [155, 170, 185] } },
  batchSize: 128,
  epochs: 200,
  pixels: "pil",
  evaluate: { everyEpochs: 20 },
} satisfies Partial<RecipeInput>;
/** imagenet_pretraining: MoCo-v3's runs with eight local crops of 96 px. */
const localCrops = {
  name: "cacr",
  form: "mocov3",
  cost: "rbf",
  localCrops: 8,
  hiddenDim: 4096,
  outDim: 256,
} satisfies MethodInput;

export const cacrRecipes = {
  "cacr-alexnet-cifar10": {
    paper,
    cost: updates(78_000),
    recipe: {
      ...small,
      summary: "CACR in the batch, SmallAlexNet, four positives, CIFAR-10, 200 epochs",
      data: { name: "cifar10", size: 32, shortSide: 32 },
      method: {
        name: "cacr",
        tNeg: 0.9,
        hiddenDim: 0,
        view: { normalize: { mean: [...cifarStatistics.mean], std: [...cifarStatistics.std] } },
      },
    },
  },
  "cacr-alexnet-stl10": {
    paper,
    cost: updates(164_000),
    recipe: {
      ...small,
      summary: "CACR in the batch, SmallAlexNet, four positives, STL-10 (train and unlabeled) at 64 px, 200 epochs",
      data: { name: "imageFolder", size: 64, shortSide: 96 },
      method: {
        name: "cacr",
        hiddenDim: 0,
        view: {
          crop: { scale: [0.08, 1] },
          normalize: { mean: [0.4409, 0.4279, 0.3868], std: [0.2683, 0.261, 0.2687] },
        },
      },
    },
  },
  "cacr-r50-imagenet": {
    paper,
    cost: updates(1_000_800),
    recipe: {
      summary: "CACR with a queue as released, ResNet-50, four positives, 224 px, ImageNet, 200 epochs",
      data: { name: "imageFolder", size: 224 },
      backbone: { name: "resnet50" },
      method: { name: "cacr", form: "queue", faithful: true, queueSize: 65536, bnGroups: 8, hiddenDim: 2048 },
      optimizer: { name: "sgd", lr: { schedule: "cosine", peak: 0.03, per: "epoch" } },
      batchSize: 256,
      epochs: 200,
      pixels: "pil",
      evaluate: { everyEpochs: 20 },
    },
  },
  "cacr-mocov3-r50-imagenet": {
    paper,
    cost: updates(312_000),
    recipe: {
      ...resnet50OnImagenet,
      summary: "CACR on MoCo-v3, ResNet-50, eight local crops, ImageNet, 1000 epochs",
      method: { ...localCrops, temperature: 1, momentum: { schedule: "cosine", peak: 0.996, end: 1 } },
    },
  },
  "cacr-mocov3-vitb-imagenet": {
    paper,
    cost: updates(93_600),
    recipe: {
      ...vitBaseOnImagenet,
      summary: "CACR on MoCo-v3, ViT-B/16, eight local crops, ImageNet, 300 epochs",
      backbone: { name: "mocoVitBase", imageSize: 224 },
      method: {
        ...localCrops,
        temperature: 0.2,
        momentum: { schedule: "cosine", peak: 0.99, end: 1 },
        projectorLayers: 3,
        predictorNorm: true,
        view: { crop: { scale: [0.08, 1] } },
      },
    },
  },
  "cacr-r18w16-cifar10": {
    paper,
    cost: "40 minutes, one thread of a busy machine",
    expected: "kNN top1 45.3, one seed (at the start 30.1, raw pixels 39.3)",
    recipe: {
      ...anchor({ name: "cacr", tNeg: 0.9, hiddenDim: 128, view: anchorView }),
      summary: "CACR in the batch, ResNet-18 of width 16, four positives, 10,000 images of CIFAR-10",
      epochs: 10,
      evaluate: { everyEpochs: 5 },
    },
  },
  "cacr-queue-r18w16-cifar10": {
    paper,
    recipe: {
      ...anchor({
        name: "cacr",
        form: "queue",
        positives: 2,
        momentum: 0.99,
        hiddenDim: 128,
        bnGroups: 1,
        view: anchorView,
      }),
      summary: "CACR with a queue, ResNet-18 of width 16, two positives, 10,000 images of CIFAR-10",
    },
  },
  "cacr-mocov3-r18w16-cifar10": {
    paper,
    recipe: {
      ...anchor({
        name: "cacr",
        form: "mocov3",
        cost: "rbf",
        localCrops: 4,
        localSize: 16,
        momentum: { schedule: "cosine", peak: 0.99, end: 1 },
        hiddenDim: 256,
        outDim: 64,
        view: anchorView,
      }),
      summary: "CACR on MoCo-v3, ResNet-18 of width 16, four local crops of 16 px, 10,000 images of CIFAR-10",
    },
  },
} satisfies Record<string, Listed>;
