/** What a run survives: an interruption, and a card without memory. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageStep } from "../../src/artifacts/index.js";
import type { NativeEngine } from "../../src/engines/native/index.js";
import { initialTensors } from "../../src/step.js";
import { failedRun } from "../../test/failedStep.js";
import { tinyInputs, tinyScalars, tinyStep } from "../../test/tinyRun.js";
import { checking, type Check } from "./check.js";

/** Steps 3 and 4 from the tensors after step 2, in another session, against the same four without a break: bit for bit on the CPU. */
export async function checkResume(engine: NativeEngine): Promise<Check> {
  const check = checking("resume");
  await check.attempt("resume", async () => {
    const step = tinyStep("mocov2", engine.dialect, "vit", "sgd", { device: engine.device });
    const open = () => engine.trainingSession(packageStep(step, initialTensors(step, 3), [engine.name]));
    const [whole, rest] = [await open(), await open()];
    for (let t = 0; t < 4; t++) {
      if (t === 2) rest.load(whole.tensors());
      for (const s of t < 2 ? [whole] : [whole, rest]) await s.step(tinyInputs("mocov2", t), tinyScalars);
    }
    const [a, b] = [rest.tensors(), whole.tensors()];
    const tolerance = engine.device === "cpu" ? 1e-30 : 1e-3; // sums by atomics have no order
    for (const [name, t] of Object.entries(b)) check.compare(name, a[name]!.data, t.data, tolerance);
    whole.release();
    rest.release();
  });
  return check.found;
}

/** A run of the sample on an engine whose step cannot be: it ends in a sentence about memory and leaves a checkpoint. */
export async function checkFailure(engine: NativeEngine, settings: readonly string[]): Promise<Check> {
  const check = checking("out of memory");
  const dir = await mkdtemp(join(tmpdir(), "diptych-gpu-"));
  await check.attempt("out of memory", async () => {
    const { error, step } = await failedRun(engine, join(dir, "run"), settings);
    check.expect(
      /^The memory of the device is not enough\./.test(error ?? ""),
      `The run ended with: ${error ?? "no error"}`,
    );
    check.expect(step === 0, `The checkpoint that is left is of step ${step ?? "none"}, not 0.`);
  });
  await rm(dir, { recursive: true });
  return check.found;
}
