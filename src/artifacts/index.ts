/** TrainingStep → artifact files: what OrtTrainingApi loads unmodified, and the step graph for runtimes without it. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { dims, input, type Value } from "../onnx/graph.js";
import { optimizerModel, toModel } from "../onnx/model.js";
import { Identity, Sub } from "../ops/index.js";
import { apply, op } from "../ops/op.js";
import { partsOf, type Parameter, type State, type TrainingStep } from "../step.js";
import type { Tensors } from "../tensor.js";
import type { Artifacts, Manifest, TensorInfo } from "./manifest.js";
import { readCheckpoint, writeCheckpoint } from "./odtc.js";
import { readSafetensors, writeSafetensors } from "./safetensors.js";

export type { Artifacts, Manifest, TensorInfo } from "./manifest.js";

/** Which packagings to build. training: the four files of OrtTrainingApi; portable: the step graph. */
export type Packaging = "training" | "portable";

/**
 * The models of a step with the tensors it starts from.
 * @example const artifacts = packageStep(step, initialTensors(step, 0), ["training"]);
 */
export function packageStep(step: TrainingStep, initial: Tensors, packagings: readonly Packaging[]): Artifacts {
  const wants = (p: Packaging) => packagings.includes(p);
  return {
    manifest: manifestOf(step),
    initial,
    ...(wants("training") && {
      trainingModel: trainingModel(step),
      evalModel: evalModel(step),
      optimizerModel: optimizerModel(),
    }),
    ...(wants("portable") && { stepModel: stepModel(step) }),
  };
}

const info = (v: Value): TensorInfo => ({ name: v.name!, dtype: v.dtype, shape: dims(v) });
const outputOf = (s: State): string => ("rows" in s ? `${s.name}.rows` : `${s.name}.next`);

function manifestOf(step: TrainingStep): Manifest {
  return {
    version: 1,
    dialect: step.dialect,
    inputs: step.inputs.map(info),
    scalars: step.scalars.map((v) => v.name!),
    parameters: step.parameters.map((p) => ({ ...info(p.value), trainable: p.trainable })),
    state: step.state.map((s) => ({
      ...info(s.input),
      at: "rows" in s ? "ring" : "next",
      every: s.every ?? "update",
      output: outputOf(s),
      ...("rows" in s && { rows: s.rows.shape[0] as number }),
      ...(s.parts && { parts: s.parts.map(({ name, shape }) => ({ name, shape })) }),
    })),
    ...(step.accumulation && {
      accumulation: {
        batches: step.accumulation.batches,
        sums: step.accumulation.sums.map((s) => ({ ...info(s.input), output: `${s.name}.next` })),
      },
    }),
    loss: "loss",
    metrics: Object.keys(step.metrics),
    applied: "applied",
  };
}

/** loss, metrics, applied, then state and sums as they leave */
const commonOutputs = (step: TrainingStep): Record<string, Value> => ({
  loss: step.loss,
  ...step.metrics,
  applied: step.applied,
  ...Object.fromEntries(step.state.map((s) => [outputOf(s), "rows" in s ? s.rows : s.next])),
  ...Object.fromEntries((step.accumulation?.sums ?? []).map((s) => [`${s.name}.next`, s.next])),
});
/** All that a step computes: what its graph ends in. */
export const valuesOf = (step: TrainingStep): Value[] => [
  ...Object.values(commonOutputs(step)),
  ...step.updates.values(),
];
const stateInputs = (step: TrainingStep): Value[] =>
  [...step.state, ...(step.accumulation?.sums ?? [])].map((s) => s.input);

/** buffer ← value where the flag is set, else buffer + value. The update is handed over as the gradient. */
const inPlaceAccumulatorV2 = op("InPlaceAccumulatorV2", {
  domain: "com.microsoft",
  training: true,
  infer: () => [{ dtype: "bool", shape: [1] }],
  vjp: "none",
});

function trainingModel(step: TrainingStep): Uint8Array {
  const trainable = step.parameters.filter((p) => p.trainable);
  const reset = input("lazy_reset_grad", "bool", [1]);
  const buffers = trainable.map((p) => input(`${p.name}_grad.accumulation.buffer`, "float32", p.value.shape));
  const accumulated = trainable.map((p, i) => {
    const update = Identity(step.updates.get(p)!);
    return [`${p.name}_grad.accumulation.out`, apply(inPlaceAccumulatorV2, [buffers[i]!, update, reset])[0]!] as const;
  });
  return toModel({
    name: "training",
    inputs: [
      ...step.inputs,
      ...step.scalars,
      ...stateInputs(step),
      ...step.parameters.map((p) => p.value),
      ...buffers,
      reset,
    ],
    outputs: { ...commonOutputs(step), ...Object.fromEntries(accumulated) },
  });
}

/** The encoder in evaluation mode; it declares every parameter in training order, read or not, as the runtime feeds them by position. */
function evalModel(step: TrainingStep): Uint8Array | undefined {
  if (!step.evaluation) return undefined;
  const { inputs, outputs } = step.evaluation;
  return toModel({ name: "evaluation", inputs: [...inputs, ...step.parameters.map((p) => p.value)], outputs });
}

function stepModel(step: TrainingStep): Uint8Array {
  const next = (p: Parameter): [string, Value] => [`${p.name}.next`, Sub(p.value, step.updates.get(p)!)];
  return toModel({
    name: "step",
    inputs: [...step.inputs, ...step.scalars, ...step.parameters.map((p) => p.value), ...stateInputs(step)],
    outputs: { ...commonOutputs(step), ...Object.fromEntries(step.parameters.filter((p) => p.trainable).map(next)) },
  });
}

/** Parameters and state told apart by the manifest; state by name, so that its file is the same from every layout. */
export function divided(manifest: Manifest, tensors: Tensors): { trainable: Tensors; frozen: Tensors; state: Tensors } {
  const pick = (names: readonly string[]): Tensors =>
    Object.fromEntries(
      names.map((name) => {
        if (!tensors[name]) throw new Error(`"${name}" is missing among the tensors of this step.`);
        return [name, tensors[name]];
      }),
    );
  return {
    trainable: pick(manifest.parameters.filter((p) => p.trainable).map((p) => p.name)),
    frozen: pick(manifest.parameters.filter((p) => !p.trainable).map((p) => p.name)),
    state: pick(
      manifest.state
        .flatMap(partsOf)
        .map((s) => s.name)
        .sort(),
    ),
  };
}

const files = {
  trainingModel: "training_model.onnx",
  evalModel: "eval_model.onnx",
  optimizerModel: "optimizer_model.onnx",
  stepModel: "step_model.onnx",
} as const;

/** Writes the files of DESIGN §5 artifacts/: models, checkpoint (ODTC), state.safetensors, manifest.json. */
export async function writeArtifacts(dir: string, artifacts: Artifacts): Promise<void> {
  await mkdir(dir, { recursive: true });
  const { trainable, frozen, state } = divided(artifacts.manifest, artifacts.initial);
  const models = Object.entries(files).flatMap(([key, file]) => {
    const bytes = artifacts[key as keyof typeof files];
    return bytes ? [writeFile(join(dir, file), bytes)] : [];
  });
  await Promise.all([
    ...models,
    writeFile(join(dir, "checkpoint"), writeCheckpoint({ trainable, frozen })),
    writeFile(join(dir, "state.safetensors"), writeSafetensors(state)),
    writeFile(join(dir, "manifest.json"), JSON.stringify(artifacts.manifest, null, 2) + "\n"),
  ]);
}

/** Reads what writeArtifacts wrote. */
export async function readArtifacts(dir: string): Promise<Artifacts> {
  const read = async (file: string): Promise<Uint8Array | undefined> => {
    try {
      return await readFile(join(dir, file));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  };
  const manifest = JSON.parse(await readFile(join(dir, "manifest.json"), "utf8")) as Manifest;
  const checkpoint = readCheckpoint(await readFile(join(dir, "checkpoint")));
  const state = readSafetensors(await readFile(join(dir, "state.safetensors"))).tensors;
  const models = await Promise.all(Object.entries(files).map(async ([key, file]) => [key, await read(file)] as const));
  return {
    manifest,
    initial: { ...checkpoint.trainable, ...checkpoint.frozen, ...state },
    ...Object.fromEntries(models),
  };
}
