/** Every op and its reverse rule in both dialects, built for the device and run there, against the CPU. */
import type { Engine } from "../../src/engines/index.js";
import { reversed } from "../../test/ops/reversed.js";
import { samples, type Sample } from "../../test/ops/samples.js";
import { evaluate } from "../../test/evaluate.js";
import { checking, type Check } from "./check.js";

/** float32 sums in another order. */
const tolerance = 1e-4;

/** `every`: only each so-manieth sample. */
export async function checkRules(device: Engine, cpu: Engine, every = 1): Promise<Check> {
  const all = Object.entries(samples).flatMap(([name, list]) =>
    (list as Sample[]).map((sample, n) => ({ sample, salt: `${name}/${n}` })),
  );
  const check = checking("op rules");
  for (const { sample, salt } of all.filter((_, i) => i % every === 0))
    for (const dialect of ["portable", "training"] as const)
      await check.attempt(`${salt}, ${dialect}`, async () => {
        const run = async (engine: Engine) => {
          const { inputs, outputs, feeds } = reversed(sample, "float32", dialect, salt, engine.device);
          const forward = sample.check === "forward" ? { y: outputs.y! } : outputs;
          return evaluate(engine, inputs, forward, feeds);
        };
        const [there, here] = [await run(device), await run(cpu)];
        for (const [name, t] of Object.entries(here))
          check.compare(`${salt}, ${dialect}: ${name}`, there[name]!.data, t.data, tolerance);
      });
  return check.found;
}
