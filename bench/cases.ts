/** The cases of python/step_bench.py, built here: the same networks, batches and losses. */
import { boundNetwork } from "../graphs/encoder.js";
import { methods, type MethodName } from "../graphs/methods/index.js";
import { optimizers, type OptimizerName } from "../graphs/optimizers.js";
import { trainingStep } from "../graphs/step.js";
import type { BackboneName } from "../graphs/backbones/index.js";
import { random } from "../src/random.js";
import type { TrainingStep } from "../src/step.js";
import { zeros, type Tensors } from "../src/tensor.js";

export interface Case {
  method: MethodName;
  options: object;
  backbone: { name: BackboneName; [option: string]: unknown };
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
} satisfies Record<string, Case>;
export type CaseName = keyof typeof cases;

export function caseStep(
  c: Case,
  dialect: "training" | "portable",
  { accumulate = 1, optimizer = "sgd" as OptimizerName } = {},
): TrainingStep {
  return trainingStep({
    dialect,
    method: methods[c.method] as never,
    methodOptions: { ...methods[c.method].defaults, ...c.options },
    network: boundNetwork(c.backbone.name, c.backbone),
    optimizer: optimizers[optimizer] as never,
    optimizerOptions: optimizers[optimizer].defaults,
    batchSize: c.batch,
    accumulate,
    size: c.size,
  });
}

export function caseInputs(step: TrainingStep): Tensors {
  return Object.fromEntries(
    step.inputs.map((v) => {
      const t = zeros("float32", v.shape as number[]);
      const r = random(0, v.name!);
      for (let i = 0; i < t.data.length; i++) t.data[i] = r.normal();
      return [v.name!, t];
    }),
  );
}
