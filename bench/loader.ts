/**
 * npm run bench -- loader [DIR] [THREADS]: what decoding and augmentation add to MoCo-v2's step with ResNet-18 at 64 px, batch 32:
 * fixed inputs, then images decoded anew for each batch (a first epoch), then images kept in memory (later epochs), in alternating blocks.
 */
import { availableParallelism } from "node:os";
import { augmentation, draw } from "../graphs/augment.js";
import { mocoView } from "../graphs/methods/mocov2.js";
import { packageStep } from "../src/artifacts/index.js";
import { augmenter } from "../src/data/augmenter.js";
import { imageFolder } from "../src/data/imageFolder.js";
import { cached } from "../src/data/cached.js";
import { loader, type Loader } from "../src/data/loader.js";
import { openEngine } from "../src/engines/native/index.js";
import { random } from "../src/random.js";
import { trainingLibrary } from "../src/runtimes.js";
import { initialTensors } from "../src/step.js";
import { train, type Prepared } from "../src/train.js";
import { caseInputs, cases, caseStep } from "./cases.js";

const [steps, rounds] = [4, 2];
const { batch: batchSize, size } = cases.mocov2_r18_64;
const view = mocoView(size);

interface Block {
  /** Wall clock and CPU time of a step with all that goes on beside it, and the wait for its batch. */
  wallMs: number;
  cpuMs: number;
  waitMs: number;
}

export async function main([root = "samples", threads = String(availableParallelism())]: string[]): Promise<void> {
  const engine = openEngine({ library: await trainingLibrary(), name: "training", threads: Number(threads) });
  const step = caseStep(cases.mocov2_r18_64, "training");
  const session = await engine.trainingSession(packageStep(step, initialTensors(step, 0), ["training"]));
  const data = (await imageFolder.open({ root, split: "train", shortSide: 80, limit: 10 * batchSize }))!;
  const aug = augmenter(engine, (v) => augmentation(v, "float"));

  const inputs = caseInputs(step);
  async function* fixed(): AsyncGenerator<Prepared, never> {
    for (let batch = 0; ; batch++) yield { epoch: 0, batch, inner: 0, inputs };
  }
  async function* fed(source: Loader): AsyncGenerator<Prepared, never> {
    for await (const { epoch, batch, images } of source.from(0, 0)) {
      const views = await aug.batch(images, [view], (v, copy, i) =>
        draw(random(0, "augment", epoch, batch, i, v.name, copy), images[i]!, v),
      );
      yield { epoch, batch, inner: 0, inputs: views };
    }
    throw new Error("The batches ended.");
  }
  const anew = loader(data, { batchSize, seed: 0 });
  const kept = loader(await cached(data, "memory"), { batchSize, seed: 0 });
  const feeds = { "fixed inputs": fixed, "decoded anew": () => fed(anew), "kept in memory": () => fed(kept) };

  /** The first step fills the pipeline and is not counted. */
  const block = async (batches: AsyncGenerator<Prepared, never>): Promise<Block> => {
    let [began, cpu, waitMs] = [0, process.cpuUsage(), 0];
    await train({
      session,
      batches,
      scalars: { lr: 0.03, momentum: 0.999 },
      startStep: 0,
      stepsPerEpoch: steps + 1,
      epochs: 1,
      onStep(r) {
        if (r.step === 1) [began, cpu] = [performance.now(), process.cpuUsage()];
        else waitMs += r.waitMs;
      },
    });
    const used = process.cpuUsage(cpu);
    const wallMs = (performance.now() - began) / steps;
    return { wallMs, cpuMs: (used.user + used.system) / 1000 / steps, waitMs: waitMs / steps };
  };

  const blocks = Object.fromEntries(Object.keys(feeds).map((name) => [name, [] as Block[]]));
  for (const feed of Object.values(feeds)) await block(feed()); // warm-up: sessions made, images kept
  for (let round = 0; round < rounds; round++)
    for (const [name, feed] of Object.entries(feeds)) blocks[name]!.push(await block(feed()));

  const least = (name: string, what: keyof Block): number => Math.min(...blocks[name]!.map((b) => b[what]));
  for (const name of Object.keys(feeds)) {
    const [wall, cpu] = [least(name, "wallMs"), least(name, "cpuMs")];
    const over = (what: keyof Block): string => (least(name, what) / least("fixed inputs", what)).toFixed(3);
    process.stdout.write(
      `${name}: ${wall.toFixed(1)} ms a step (${over("wallMs")}x), ${cpu.toFixed(1)} ms of CPU (${over("cpuMs")}x), ` +
        `waiting ${((100 * least(name, "waitMs")) / wall).toFixed(1)} %\n`,
    );
  }
  session.release();
  aug.release();
}
