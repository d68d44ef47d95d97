/** Linear heads on frozen features: scaled, trained and scored as graphs on the engine. */
import { headScoresModel, scalingModel, type Scaling } from "../graphs/probe.js";
import { packageStep } from "../src/artifacts/index.js";
import type { Engine, Residents, TrainingSession } from "../src/engines/index.js";
import type { NativeEngine } from "../src/engines/native/index.js";
import { initialTensors, type TrainingStep } from "../src/step.js";
import type { Tensor, Tensors } from "../src/tensor.js";
import { accuracyOf, type Accuracy, type Labelled } from "./evaluator.js";
import { matrix, vector, type Features } from "./features.js";

/** weight [L,C,D], bias [L,C]: L classifiers side by side. */
export interface Heads {
  weight: Tensor;
  bias: Tensor;
}

/** A session of a step in the engine's own packaging, from weights drawn with `seed`, or given by name. */
export const openStep = (
  engine: NativeEngine,
  step: TrainingStep,
  seed: number,
  given: Tensors = {},
): Promise<TrainingSession> =>
  engine.trainingSession(packageStep(step, initialTensors(step, seed, given), [engine.name]));

/** Rows that every step reads, brought to where it computes. */
export const uploaded = (engine: Engine, { features, labels }: Labelled): Promise<Residents> =>
  engine.upload({ features: matrix(features), labels: vector(labels) });

/** The rows of each set scaled; mean and deviation are those of the first. */
export async function scaled(engine: Engine, sets: readonly Labelled[], scaling: Scaling): Promise<Labelled[]> {
  if (scaling === "none") return [...sets];
  const { width } = sets[0]!.features;
  const session = await engine.session(scalingModel(scaling, width));
  try {
    const reference = matrix(sets[0]!.features);
    const out: Labelled[] = [];
    for (const { features, labels } of sets) {
      const { scaled } = await session.run({ features: matrix(features), reference });
      out.push({ features: rows(scaled!), labels });
    }
    return out;
  } finally {
    session.release();
  }
}

const rows = ({ data, shape }: Tensor): Features => ({
  data: data as Float32Array,
  length: shape[0]!,
  width: shape[1]!,
});

export interface HeadScore extends Accuracy {
  /** Mean cross-entropy, in nats. */
  loss: number;
}

/** Rows of one call. */
const chunk = 4096;

/** Every head's score on the rows. */
export async function scoreHeads(
  engine: Engine,
  { weight, bias }: Heads,
  { features, labels }: Labelled,
): Promise<HeadScore[]> {
  const [heads, classes, width] = weight.shape as [number, number, number];
  const places = new Float32Array(features.length * heads);
  const losses = new Float32Array(features.length * heads);
  const session = await engine.session(headScoresModel(heads, classes, width));
  try {
    for (let start = 0; start < features.length; start += chunk) {
      const end = Math.min(start + chunk, features.length);
      const out = await session.run({
        features: matrix(features, start, end),
        labels: vector(labels.subarray(start, end)),
        weight,
        bias,
      });
      places.set(out.places!.data as Float32Array, start * heads);
      losses.set(out.losses!.data as Float32Array, start * heads);
    }
  } finally {
    session.release();
  }
  return Array.from({ length: heads }, (_, l) => {
    let sum = 0;
    for (let i = l; i < losses.length; i += heads) sum += losses[i]!;
    return { ...accuracyOf(places, l, heads), loss: sum / features.length };
  });
}

/** The best head: the highest top1, and among equals the lowest loss. A head that diverged is never it. */
export const bestOf = (scores: readonly HeadScore[]): number =>
  scores.reduce((best, s, i) => {
    const held = scores[best]!;
    const better = s.top1 > held.top1 || (s.top1 === held.top1 && s.loss < held.loss);
    return Number.isNaN(s.loss) ? best : Number.isNaN(held.loss) || better ? i : best;
  }, 0);
