/** A pre-training run whose step fails. */
import { pretrain } from "../cli/run.js";
import { recipes } from "../cli/recipes/index.js";
import { resolveRecipe, withSettings } from "../cli/recipes/schema.js";
import { newestCheckpoint } from "../src/checkpoints.js";
import type { NativeEngine } from "../src/engines/native/index.js";

/** The engine, with training sessions whose step `at` (from 1) ends in an error as a full card's would. */
export const failingAt = (engine: NativeEngine, at: number): NativeEngine => ({
  ...engine,
  async trainingSession(...given) {
    const session = await engine.trainingSession(...given);
    let steps = 0;
    return {
      ...session,
      step: (...inputs) =>
        ++steps === at ? Promise.reject(new Error("The memory of the device is not enough.")) : session.step(...inputs),
    };
  },
});

/** The sample recipe, made small. */
export const smallSample = (settings: readonly string[]) => {
  const small = ["data.limit=64", "data.size=32", "batchSize=16", "epochs=2", "backbone.width=8", ...settings];
  return resolveRecipe(withSettings(recipes.sample.recipe, small));
};

/** Runs it until it fails: the error, what was said, and the step of the checkpoint that is left. */
export async function failedRun(engine: NativeEngine, out: string, settings: readonly string[] = []) {
  const said: string[] = [];
  const error = await pretrain({
    recipe: smallSample(settings),
    recipeName: "sample",
    out,
    engine,
    resume: false,
    listener: { say: (line) => said.push(line) },
    stopping: () => false,
  }).then(
    () => undefined,
    (e: Error) => e.message,
  );
  const saved = await newestCheckpoint(`${out}/checkpoints`, () => undefined);
  return { error, said, step: saved?.progress.step };
}
