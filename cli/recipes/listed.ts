/** What a recipe in the list is, and the small job on CIFAR-10 that several methods share. */
import { cifarStatistics } from "../../src/views.js";
import type { MethodInput, RecipeInput, ViewInput } from "./schema.js";

export interface Listed {
  recipe: RecipeInput;
  paper: string;
  /** What it takes: measured on 2 cores with the command, or on record for the authors' machines. */
  cost?: string;
  /** Measured by the command beside it; empty until then. */
  expected?: string;
}

/** The cost of a published recipe of which no source gives the hours. */
export const updates = (n: number): string => `${n.toLocaleString("en")} updates; the authors' hours are not on record`;

/** 10,000 images of CIFAR-10, ResNet-18 of width 16, 15 epochs, as the PyTorch runs in docs/results.md. */
export const anchor = (method: MethodInput): RecipeInput => ({
  data: { name: "cifar10", size: 32, shortSide: 32, limit: 10_000 },
  backbone: { name: "resnet18", stem: "cifar", width: 16 },
  method,
  optimizer: {
    name: "sgd",
    momentum: 0.9,
    weightDecay: 5e-4,
    lr: { schedule: "cosine", peak: 0.06, warmupEpochs: 1 },
  },
  batchSize: 128,
  epochs: 15,
  pixels: "pil",
  evaluate: { everyEpochs: 3 },
});
export const anchorView = {
  blur: null,
  normalize: { mean: [...cifarStatistics.mean], std: [...cifarStatistics.std] },
} satisfies ViewInput;
