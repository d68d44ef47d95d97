/** APS: the paper's recipes on CIFAR-10 (visresearch/aps, config/pretrain), and a small one. */
import { cifarStatistics } from "../../src/views.js";
import { anchor, updates, type Listed } from "./listed.js";
import type { OptimizerInput } from "./schema.js";

const paper = "Shen et al., Pattern Recognition 2025, arXiv 2306.02854";
/** AdamW with decay on everything; the smaller of a ramp and a cosine over the whole run, once an epoch */
const optimizer = (peak: number, warmupEpochs: number): OptimizerInput => ({
  name: "adamw",
  weightDecay: 0.05,
  exclude: "none",
  lr: { schedule: "cosine", peak, warmupEpochs, per: "epoch", from: "start", capped: true },
});

const published = (backbone: "vitTiny" | "vitSmall" | "vitBase", peak: number): Listed => ({
  paper,
  cost: updates(620_800),
  recipe: {
    summary: `APS as released, ${backbone} with patch 2, 32 px, CIFAR-10, 1600 epochs of 4 steps a batch`,
    data: { name: "cifar10", size: 32, shortSide: 32 },
    backbone: { name: backbone, patchSize: 2 },
    method: { name: "aps", faithful: true },
    optimizer: optimizer(peak, 20),
    batchSize: 512,
    epochs: 1600,
    pixels: "pil",
    evaluate: { everyEpochs: 100 },
  },
});

export const apsRecipes = {
  "aps-vitt2-cifar10": published("vitTiny", 2e-3),
  "aps-vits2-cifar10": published("vitSmall", 1e-3),
  "aps-vitb2-cifar10": published("vitBase", 1e-3),
  "aps-vit4-cifar10-small": {
    paper,
    cost: "48 minutes, one thread of a busy machine",
    expected: "kNN top1 39.9, one seed (at the start 29.9, raw pixels 39.3)",
    recipe: {
      ...anchor({
        name: "aps",
        grid: 8,
        hiddenDim: 256,
        outDim: 64,
        view: { normalize: { mean: [...cifarStatistics.mean], std: [...cifarStatistics.std] } },
      }),
      summary: "APS with flips seen, a ViT of width 96 and patch 4, 10,000 images of CIFAR-10",
      backbone: { name: "vitTiny", embedDim: 96, depth: 6, numHeads: 3, patchSize: 4 },
      optimizer: optimizer(1e-3, 2),
    },
  },
} satisfies Record<string, Listed>;
