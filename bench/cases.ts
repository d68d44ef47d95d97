/** A case for each method; where python/step_bench.py has it too, with the same network, batch and loss. */
import { boundNetwork } from "../graphs/encoder.js";
import { methods, type MethodName } from "../graphs/methods/index.js";
import { optimizers, type OptimizerName } from "../graphs/optimizers.js";
import { trainingStep, type StepOptions } from "../graphs/step.js";
import type { BackboneName } from "../graphs/backbones/index.js";
import { random } from "../src/random.js";
import type { TrainingStep } from "../src/step.js";
import { zeros, type Tensors } from "../src/tensor.js";

export interface Case {
  method: MethodName;
  options: object;
  backbone: { name: BackboneName; [option: string]: unknown };
  /** Default sgd, as its defaults are. */
  optimizer?: OptimizerName;
  batch: number;
  size: number;
}

/** bnGroups 1: the peer has no shuffle-BN. */
export const cases = {
  simclr_r18_32: {
    method: "simclr",
    options: { temperature: 0.5, hiddenDim: 512, outDim: 128 },
    backbone: { name: "resnet18", stem: "cifar" },
    batch: 64,
    size: 32,
  },
  mocov2_r18_64: {
    method: "mocov2",
    options: { queueSize: 4096, hiddenDim: 512, outDim: 128, bnGroups: 1 },
    backbone: { name: "resnet18" },
    batch: 32,
    size: 64,
  },
  densecl_r50_224: {
    method: "densecl",
    options: { queueSize: 65536, hiddenDim: 2048, outDim: 128, bnGroups: 1 },
    backbone: { name: "resnet50" },
    batch: 4,
    size: 224,
  },
  mocov3_r18_32: {
    method: "mocov3",
    options: { projectorLayers: 2, predictorNorm: false },
    backbone: { name: "resnet18", stem: "cifar" },
    batch: 32,
    size: 32,
  },
  byol_r18_32: { method: "byol", options: {}, backbone: { name: "resnet18", stem: "cifar" }, batch: 32, size: 32 },
  isd_r18_64: { method: "isd", options: { bnGroups: 1 }, backbone: { name: "resnet18" }, batch: 32, size: 64 },
  aps_vit_32: { method: "aps", options: {}, backbone: { name: "vitTiny" }, optimizer: "adamw", batch: 32, size: 32 },
  vicreg_r18_32: { method: "vicreg", options: {}, backbone: { name: "resnet18", stem: "cifar" }, batch: 32, size: 32 },
  tcr_r18_32: {
    method: "tcr",
    options: { patches: 4 },
    backbone: { name: "resnet18", stem: "cifar" },
    batch: 16,
    size: 32,
  },
  bagssl_r18_32: { method: "bagssl", options: {}, backbone: { name: "resnet18", stem: "cifar" }, batch: 32, size: 32 },
  cacr_r18_32: {
    method: "cacr",
    options: { positives: 4 },
    backbone: { name: "resnet18", stem: "cifar" },
    batch: 16,
    size: 32,
  },
} satisfies Record<string, Case>;
/** Of `npm run gpu`: at the sizes of the papers. python/gpu_bench.py builds the same. */
export const gpuCases = {
  mocov2_r50: {
    method: "mocov2",
    options: { queueSize: 65536, hiddenDim: 2048, outDim: 128, bnGroups: 1 },
    backbone: { name: "resnet50" },
    batch: 256,
    size: 224,
  },
  densecl_r50: { ...cases.densecl_r50_224, batch: 256 },
  mocov3_vits: {
    method: "mocov3",
    options: { hiddenDim: 4096, outDim: 256 },
    backbone: { name: "mocoVitSmall" },
    optimizer: "adamw",
    batch: 256,
    size: 224,
  },
  aps_vit: { ...cases.aps_vit_32, batch: 512 },
} satisfies Record<string, Case>;

/** The cases that python/step_bench.py builds too; the others print ours alone. */
export const withPeer: readonly string[] = ["simclr_r18_32", "mocov2_r18_64", "densecl_r50_224", "aps_vit_32"];
export type CaseName = keyof typeof cases;

export function caseStep(
  c: Case,
  dialect: "training" | "portable",
  {
    optimizer = c.optimizer ?? "sgd",
    ...rest
  }: { optimizer?: OptimizerName } & Partial<Pick<StepOptions, "accumulate" | "device" | "precision">> = {},
): TrainingStep {
  return trainingStep({
    dialect,
    method: methods[c.method] as never,
    methodOptions: { ...methods[c.method].defaults, ...c.options },
    network: boundNetwork(c.backbone.name, c.backbone),
    optimizer: optimizers[optimizer] as never,
    optimizerOptions: optimizers[optimizer].defaults,
    batchSize: c.batch,
    size: c.size,
    ...rest,
  });
}

/** Normal numbers; whole-number inputs (tokens, permutations) count along their last axis. */
export function caseInputs(step: TrainingStep): Tensors {
  return Object.fromEntries(
    step.inputs.map((v) => {
      const t = zeros(v.dtype, v.shape as number[]);
      const r = random(0, v.name!);
      const n = v.shape.at(-1) as number;
      for (let i = 0; i < t.data.length; i++) t.data[i] = v.dtype === "int64" ? BigInt(i % n) : r.normal();
      return [v.name!, t];
    }),
  );
}
