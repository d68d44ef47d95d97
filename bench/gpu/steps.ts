/** Steps of every method on the device, each from the CPU's tensors, against the CPU's step in fp32. */
import { methods, type MethodName } from "../../graphs/methods/index.js";
import type { Precision } from "../../graphs/precision.js";
import { packageStep } from "../../src/artifacts/index.js";
import { releaseAll, type EngineName } from "../../src/engines/index.js";
import type { NativeEngine } from "../../src/engines/native/index.js";
import { initialTensors } from "../../src/step.js";
import { tinyInputs, tinyScalars, tinyStep, type TinyNetwork } from "../../test/tinyRun.js";
import { checking, type Check } from "./check.js";

/** Of loss and gradient norm. */
const tolerances: Record<Precision, { loss: number; gradNorm: number }> = {
  fp32: { loss: 1e-3, gradNorm: 1e-2 },
  tf32: { loss: 1e-2, gradNorm: 0.05 },
  fp16: { loss: 1e-2, gradNorm: 0.05 },
  bf16: { loss: 0.05, gradNorm: 0.2 },
};

export interface StepCase {
  method: MethodName;
  network: TinyNetwork;
  precision: Precision;
  engine: DeviceEngine;
}

/** Both packagings, and the step graph captured. */
export type DeviceEngine = EngineName | "captured";

/** What a device can run: all packagings in fp32, the default one in the other precisions; bf16 on ViTs. */
export function stepCases(precisions: readonly Precision[], only: readonly MethodName[]): StepCase[] {
  return only.flatMap((method) =>
    precisions.flatMap((precision) => {
      const networks = method === "aps" || precision === "bf16" ? (["vit"] as const) : (["geluResnet", "vit"] as const);
      const engines: DeviceEngine[] = precision === "fp32" ? ["training", "portable", "captured"] : ["training"];
      return networks.flatMap((network) => engines.map((engine) => ({ method, network, precision, engine })));
    }),
  );
}
export const allMethods = Object.keys(methods) as MethodName[];

export async function checkSteps(
  device: Record<DeviceEngine, NativeEngine>,
  cpu: NativeEngine,
  cases: readonly StepCase[],
  steps: number,
): Promise<Check[]> {
  const found: Check[] = [];
  for (const c of cases) {
    const { method, network, precision, engine } = c;
    const check = checking(`${method}, ${network}, ${precision}, ${engine}: ${steps} steps`);
    await check.attempt(method, async () => {
      const open = (on: NativeEngine, own: Precision) => {
        const step = tinyStep(method, on.dialect, network, "sgd", {
          device: on.device,
          precision: own,
          lossScale: { start: 1024 },
        });
        const artifacts = packageStep(step, initialTensors(step, 3), [on.name]);
        return on.trainingSession(artifacts, { tf32: own === "tf32" });
      };
      const [there, here] = [await open(device[engine], precision), await open(cpu, "fp32")];
      for (let t = 0; t < steps; t++) {
        there.load(here.tensors());
        const inputs = tinyInputs(method, t);
        const fed = await device[engine].upload(inputs);
        const { applied } = await there.step(fed, tinyScalars);
        releaseAll(fed);
        await here.step(inputs, tinyScalars);
        check.expect(applied === true, `Step ${t} was not applied.`);
        const [a, b] = [there.metrics(), here.metrics()];
        for (const [what, tolerance] of Object.entries(tolerances[precision]))
          check.compare(`step ${t}: ${what}`, [a[what]!], [b[what]!], tolerance);
      }
      there.release();
      here.release();
    });
    found.push(check.found);
  }
  return found;
}
