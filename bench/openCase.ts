/** A case of the benchmarks, opened: its step on an engine. */
import type { Precision } from "../graphs/precision.js";
import { packageStep } from "../src/artifacts/index.js";
import type { EngineName, TrainingSession } from "../src/engines/index.js";
import { openEngine, type NativeEngine } from "../src/engines/native/index.js";
import type { Device } from "../src/onnx/graph.js";
import { trainingLibrary } from "../src/runtimes.js";
import { initialTensors, type TrainingStep } from "../src/step.js";
import { cases, caseStep, gpuCases, type Case } from "./cases.js";

/** Where and how; default the CPU in fp32, by OrtTrainingApi. */
export interface CaseOptions {
  device?: Device;
  deviceId?: number;
  libraries?: string;
  precision?: Precision;
  /** portable: the step graph as a plain session of the same library, of the same ops. */
  engine?: EngineName;
  /** The step graph as CUDA graphs. */
  graphs?: boolean;
  /** In place of the case's own. */
  batch?: number;
}

/** The case of a name, its batch replaced where one is given. */
export function caseOf(name: string, batch?: number): Case {
  const own = ({ ...cases, ...gpuCases } as Record<string, Case>)[name]!;
  return { ...own, batch: batch ?? own.batch };
}

export async function engineOf(threads: number, o: CaseOptions): Promise<NativeEngine> {
  const { device = "cpu", deviceId = 0, libraries, precision, engine = "training", graphs } = o;
  const cuda = { deviceId, libraries, tf32: precision === "tf32", graphs };
  return openEngine({ library: await trainingLibrary({ device }), name: engine, device, cuda, threads });
}

export async function openCase(
  c: Case,
  threads: number,
  o: CaseOptions,
): Promise<{ engine: NativeEngine; step: TrainingStep; session: TrainingSession }> {
  const engine = await engineOf(threads, o);
  const step = caseStep(c, "training", { device: engine.device, precision: o.precision });
  const session = await engine.trainingSession(packageStep(step, initialTensors(step, 0), [engine.name]));
  return { engine, step, session };
}

/** Values of the scalars of every case. */
export const caseScalars = { lr: 0.03, momentum: 0.999, lossLambda: 0.5 };
