import assert from "node:assert/strict";
import type { OptimizerName } from "../graphs/optimizers.js";
import { packageStep } from "../src/artifacts/index.js";
import type { TrainingSession } from "../src/engines/index.js";
import { initialTensors } from "../src/step.js";
import type { Tensors } from "../src/tensor.js";
import { portableEngine, trainingEngine } from "./engine.js";
import { tinyBatches, tinyInputs, tinyScalars, tinyStep } from "./tinyRun.js";

const engines = { training: trainingEngine, portable: () => Promise.resolve(portableEngine()) };
type EngineName = keyof typeof engines;

interface SessionOptions {
  accumulate?: number;
  /** Images a batch; 16 an update unless given. */
  batch?: number;
  which?: "vit" | "resnet";
  optimizer?: OptimizerName;
}
/** MoCo-v2 without shuffle-BN: on the ViT, which has no BatchNorm, its loss is a mean over images, as the queue holds all negatives. */
async function session(
  engine: EngineName,
  { accumulate, batch, which = "vit", optimizer }: SessionOptions,
): Promise<TrainingSession> {
  const options = { accumulate, batch: batch ?? 16 / (accumulate ?? 1), methodOptions: { bnGroups: 1 } };
  const step = tinyStep("mocov2", engine, which, optimizer, options);
  return (await engines[engine]()).trainingSession(packageStep(step, initialTensors(step, 3), [engine]));
}

const inputs = (t: number): Tensors => {
  const { views } = tinyInputs("mocov2", t);
  return { views: views! };
};

/** The largest difference of any tensor, in units of 1 + its largest value. */
function apart(a: Tensors, b: Tensors): [string, number] {
  const off = (name: string): [string, number] => {
    const [x, y] = [Array.from(a[name]!.data, Number), Array.from(b[name]!.data, Number)];
    const largest = x.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    return [name, x.reduce((m, v, i) => Math.max(m, Math.abs(v - y[i]!)), 0) / (1 + largest)];
  };
  return Object.keys(a)
    .map(off)
    .reduce((worst, next) => (next[1] > worst[1] ? next : worst));
}

describe("four accumulated batches", () => {
  const rates = { sgd: 0.05, adamw: 1e-3, lars: 1 } as const;
  for (const engine of ["training", "portable"] as const)
    for (const optimizer of ["sgd", "adamw", "lars"] as const)
      it(`equal one four times larger, queue and teacher too (${optimizer}, ${engine} engine)`, async () => {
        const whole = await session(engine, { optimizer });
        const parts = await session(engine, { optimizer, accumulate: 4 });
        const scalars = { ...tinyScalars, lr: rates[optimizer] };
        const start = whole.tensors();
        for (let t = 0; t < 5; t++) {
          await whole.step(inputs(t), scalars);
          for (const batch of tinyBatches(inputs(t), 4)) await parts.step(batch, scalars);
          const [name, off] = apart(whole.tensors(), parts.tensors());
          assert.ok(off < 1e-5, `update ${t}: ${name} is off by ${off}`);
          const [a, b] = [whole.metrics(), parts.metrics()];
          for (const [metric, value] of Object.entries(a))
            assert.ok(Math.abs(value - b[metric]!) < 1e-5 * (1 + value), `${metric}: ${value} and ${b[metric]}`);
        }
        assert.ok(apart(start, whole.tensors())[1] > 1e-3, "the updates are larger than what they may differ by");
        whole.release();
        parts.release();
      });
});

for (const engine of ["training", "portable"] as const)
  describe(`an accumulated update on the ${engine} engine`, () => {
    it("says whether it was applied at its last batch, and until then leaves everything as it was", async () => {
      const s = await session(engine, { accumulate: 2 });
      const [first, second] = tinyBatches(inputs(0), 2) as [Tensors, Tensors];
      const before = s.tensors();
      assert.deepEqual(await s.step(first, tinyScalars), {});
      assert.deepEqual(s.tensors(), before);
      assert.deepEqual(await s.step(second, tinyScalars), { applied: true });
      assert.equal(Number(s.tensors().step!.data[0]), 1);
      s.release();
    });

    it("changes nothing where one of its batches is not finite", async () => {
      const s = await session(engine, { accumulate: 4, which: "resnet" });
      const update = async (batches: Tensors[]) => {
        let last: { applied?: boolean } = {};
        for (const batch of batches) last = await s.step(batch, tinyScalars);
        return last;
      };
      const before = s.tensors();
      const spoiled = tinyBatches(inputs(0), 4);
      spoiled[1]!.views!.data[5] = Infinity;
      assert.deepEqual(await update(spoiled), { applied: false });
      assert.deepEqual(s.tensors(), before);
      assert.deepEqual(await update(tinyBatches(inputs(0), 4)), { applied: true });
      const after = s.tensors();
      s.load(before);
      await update(tinyBatches(inputs(0), 4));
      assert.deepEqual(s.tensors(), after);
      s.release();
    });

    it("begins anew where other tensors are loaded in its middle", async () => {
      const s = await session(engine, { accumulate: 2 });
      const [first, second] = tinyBatches(inputs(0), 2) as [Tensors, Tensors];
      const start = s.tensors();
      await s.step(first, tinyScalars);
      await s.step(second, tinyScalars);
      const once = s.tensors();
      await s.step(second, tinyScalars);
      s.load(start);
      await s.step(first, tinyScalars);
      await s.step(second, tinyScalars);
      assert.deepEqual(s.tensors(), once);
      s.release();
    });

    it("moves BatchNorm's statistics with every batch, as steps do that learn nothing", async () => {
      const accumulating = await session(engine, { accumulate: 4, which: "resnet" });
      const stepping = await session(engine, { batch: 4, which: "resnet" });
      for (const batch of tinyBatches(inputs(0), 4)) {
        await accumulating.step(batch, { ...tinyScalars, momentum: 1 });
        await stepping.step(batch, { lr: 0, momentum: 1 });
      }
      const statistics = (s: TrainingSession): Tensors =>
        Object.fromEntries(Object.entries(s.tensors()).filter(([name]) => name.includes("running_")));
      const [name, off] = apart(statistics(stepping), statistics(accumulating));
      assert.ok(off < 1e-6, `${name} is off by ${off}`);
      accumulating.release();
      stepping.release();
    });
  });
