/** Recipes: saved commands, plain data. An "expected" score stands here only when it was measured by the command beside it. */
import { apsRecipes } from "./aps.js";
import { bagsslRecipes } from "./bagssl.js";
import { byolRecipes } from "./byol.js";
import { cacrRecipes } from "./cacr.js";
import { denseclRecipes } from "./densecl.js";
import { isdRecipes } from "./isd.js";
import { anchor, anchorView, type Listed } from "./listed.js";
import { mocov3Recipes } from "./mocov3.js";
import { tcrRecipes } from "./tcr.js";
import { vicregRecipes } from "./vicreg.js";

export type { Listed };

export const recipes = {
  /** The main job: about nine hundred small photographs of clothes that come with the package. */
  sample: {
    paper: "Chen et al., ICML 2020, arXiv 2002.05709",
    cost: "3 minutes of 2 cores",
    expected: "kNN top1 59.9, mean of 3 seeds (at the start 48.2, raw pixels 52.5)",
    recipe: {
      summary: "SimCLR, ResNet-18 of width 16, 64 px, the photographs in samples/",
      data: { name: "imageFolder", root: "samples", size: 64, shortSide: 72 },
      backbone: { name: "resnet18", width: 16 },
      method: { name: "simclr", temperature: 0.2, hiddenDim: 128, outDim: 128, view: { blur: null } },
      optimizer: { name: "sgd", lr: { schedule: "cosine", peak: 0.12, warmupEpochs: 2 } },
      batchSize: 64,
      epochs: 60,
      evaluate: { everyEpochs: 10 },
    },
  },
  /** One's own photographs: SimCLR at 64 px with the ImageNet stem, light enough for a laptop. */
  photos: {
    paper: "Chen et al., ICML 2020, arXiv 2002.05709",
    recipe: {
      summary: "SimCLR, ResNet-18, 64 px, any folder of images",
      data: { name: "imageFolder", size: 64 },
      backbone: { name: "resnet18" },
      method: { name: "simclr" },
      optimizer: { name: "sgd", lr: { schedule: "cosine", peak: 0.06, warmupEpochs: 5 } },
      batchSize: 64,
      epochs: 100,
      evaluate: { everyEpochs: 10 },
    },
  },
  "simclr-r18w16-cifar10": {
    paper: "Chen et al., ICML 2020, arXiv 2002.05709",
    cost: "20 minutes of one core",
    expected: "kNN top1 48.2, mean of 3 seeds (raw pixels 39.3)",
    recipe: {
      ...anchor({ name: "simclr", temperature: 0.2, hiddenDim: 128, outDim: 128, view: anchorView }),
      summary: "SimCLR, ResNet-18 of width 16, 10,000 images of CIFAR-10",
    },
  },
  "mocov2-r18w16-cifar10": {
    paper: "Chen et al., 2020, arXiv 2003.04297",
    cost: "15 minutes of one core",
    expected: "kNN top1 42.3, mean of 3 seeds (raw pixels 39.3)",
    recipe: {
      ...anchor({
        name: "mocov2",
        queueSize: 4096,
        temperature: 0.2,
        momentum: 0.99,
        hiddenDim: 128,
        outDim: 128,
        bnGroups: 1,
        view: anchorView,
      }),
      summary: "MoCo-v2 without shuffle-BN, ResNet-18 of width 16, 10,000 images of CIFAR-10",
    },
  },
  ...denseclRecipes,
  ...apsRecipes,
  ...bagsslRecipes,
  ...byolRecipes,
  ...cacrRecipes,
  ...isdRecipes,
  ...mocov3Recipes,
  ...tcrRecipes,
  ...vicregRecipes,
} satisfies Record<string, Listed>;
export type RecipeName = keyof typeof recipes;
