/** npm run bench -- accumulate: processor time of a batch alone, and of each of four that make one update, in turn in one process; one thread. */
import { packageStep } from "../src/artifacts/index.js";
import type { TrainingSession } from "../src/engines/index.js";
import { openEngine } from "../src/engines/native/index.js";
import { trainingLibrary } from "../src/runtimes.js";
import { initialTensors } from "../src/step.js";
import type { Tensors } from "../src/tensor.js";
import { caseInputs, cases, caseStep } from "./cases.js";

const narrow = { ...cases.simclr_r18_32, batch: 32, backbone: { name: "resnet18", stem: "cifar", width: 16 } } as const;

/** Milliseconds of user and system time that one batch takes. */
async function cost(session: TrainingSession, inputs: Tensors): Promise<number> {
  const before = process.cpuUsage();
  await session.step(inputs, { lr: 1e-3 });
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

export async function main(): Promise<void> {
  const engine = openEngine({ library: await trainingLibrary(), name: "training", threads: 1 });
  for (const optimizer of ["sgd", "adamw"] as const) {
    const opened = async (accumulate: number): Promise<[TrainingSession, Tensors]> => {
      const step = caseStep(narrow, "training", { accumulate, optimizer });
      const session = await engine.trainingSession(packageStep(step, initialTensors(step, 0), ["training"]));
      return [session, caseInputs(step)];
    };
    const [alone, four] = [await opened(1), await opened(4)];
    const times: [alone: number[], four: number[][]] = [[], [[], [], [], []]];
    for (let round = 0; round < 4; round++)
      for (const at of times[1]) {
        times[0].push(await cost(...alone));
        at.push(await cost(...four));
      }
    const least = (t: number[]): string => Math.min(...t).toFixed(0);
    process.stdout.write(
      `ResNet-18 of width 16, 32 px, batch 32, ${optimizer}: ${least(times[0])} ms alone, ${times[1].map(least).join(", ")} ms as first to last of four\n`,
    );
    for (const [session] of [alone, four]) session.release();
  }
}
