/** Waiting for batches, in a process of its own; prints one JSON line. NAME THREADS SECONDS OPTIONS [IMAGES] */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { resolveRecipe, type RecipeInput } from "../../cli/recipes/schema.js";
import { pretrain } from "../../cli/run.js";
import { train, type Prepared, type StepReport } from "../../src/train.js";
import { caseInputs, type Case } from "../cases.js";
import { caseOf, caseScalars, engineOf, openCase, type CaseOptions } from "../openCase.js";
import type { Wait } from "./waits.js";

const [name, threads, seconds, given, root] = process.argv.slice(2) as [string, string, string, string, string?];
const options = JSON.parse(given) as CaseOptions;
const c = caseOf(name, options.batch);

/** Sums over the steps after the first two; `done` once they have taken long enough, and two were counted. */
function clock() {
  let [steps, stepMs, waitMs] = [0, 0, 0];
  return {
    count(r: Pick<StepReport, "step" | "stepMs" | "waitMs">): void {
      if (r.step <= 2) return;
      steps++;
      stepMs += r.stepMs;
      waitMs += r.waitMs;
    },
    done: () => steps > 1 && stepMs + waitMs > 1000 * Number(seconds),
    read: (): Wait => ({
      img_s: (1000 * steps * c.batch) / (stepMs + waitMs),
      wait_share: waitMs / (stepMs + waitMs),
    }),
  };
}

/** The loop on one batch again and again. */
async function synthetic(): Promise<Wait> {
  const { step, session } = await openCase(c, Number(threads), options);
  const inputs = caseInputs(step);
  async function* batches(): AsyncGenerator<Prepared, never> {
    for (let batch = 0; ; batch++) yield { epoch: 0, batch, inner: 0, inputs };
  }
  const timer = clock();
  await train({
    session,
    batches: batches(),
    scalars: caseScalars,
    startStep: 0,
    stepsPerEpoch: 1e6,
    epochs: 1,
    onStep: timer.count,
    stopping: timer.done,
  });
  session.release();
  return timer.read();
}

/** A run as `diptych pretrain` makes it, on a folder of images that are decoded anew in each epoch, stopped when enough is seen. */
async function fed(images: string): Promise<Wait> {
  const engine = await engineOf(Number(threads), options);
  const out = await mkdtemp(join(tmpdir(), "diptych-wait-"));
  const timer = clock();
  try {
    await pretrain({
      recipe: resolveRecipe(recipeOf(c, images)),
      recipeName: name,
      out,
      engine,
      resume: false,
      listener: { say: () => undefined, step: timer.count },
      stopping: timer.done,
    });
  } finally {
    await rm(out, { recursive: true });
  }
  return timer.read();
}

const recipeOf = ({ method, options: methodOptions, backbone, optimizer = "sgd", batch, size }: Case, images: string) =>
  ({
    summary: name,
    data: { name: "imageFolder", root: images, size, limit: 2 * batch, cache: "none" },
    backbone,
    method: { name: method, ...methodOptions },
    optimizer: { name: optimizer, lr: caseScalars.lr },
    batchSize: batch,
    precision: options.precision,
    epochs: 1e6,
    evaluate: { everyEpochs: 1e6 },
    checkpoint: { everySteps: 1e9 },
  }) as unknown as RecipeInput;

process.stdout.write(`${JSON.stringify(await (root ? fed(root) : synthetic()))}\n`);
process.exit(); // batches are prepared ahead without end
