/** What 16 bits cost in accuracy: the sample recipe, shortened, in fp32 and in each of them from the same seeds; final kNN beside final kNN. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { recipes } from "../../cli/recipes/index.js";
import { resolveRecipe, withSettings } from "../../cli/recipes/schema.js";
import { pretrain } from "../../cli/run.js";
import type { Precision } from "../../graphs/precision.js";
import type { NativeEngine } from "../../src/engines/native/index.js";
import { checking, type Check } from "./check.js";

/** kNN top1 of a pair of runs, in percent. */
interface Pair {
  seed: number;
  fp32: number;
  narrow: number;
}
export interface KnnCheck extends Check {
  pairs: Pair[];
  /** Mean of narrow − fp32 in points, and its standard error. */
  difference: number;
  se: number;
}

/** Points that the mean over the seeds may differ by. */
const allowed = 1;

/** bf16 has kernels for ViTs alone. */
const networks = {
  resnet: { settings: [], precisions: ["fp16"] },
  vit: {
    settings: [
      ...["backbone.name=vitTiny", "backbone.embedDim=96", "backbone.depth=6", "backbone.numHeads=3"],
      ...["backbone.patchSize=8", "optimizer.name=adamw", "optimizer.lr=0.0005"],
    ],
    precisions: ["fp16", "bf16"],
  },
} as const satisfies Record<string, { settings: readonly string[]; precisions: readonly Precision[] }>;

export interface KnnOptions {
  precisions: readonly Precision[];
  seeds: readonly number[];
  /** Of the sample recipe, after the network's. */
  settings: readonly string[];
  /** Default all. */
  networks?: readonly (keyof typeof networks)[];
}

export async function checkKnn(engine: NativeEngine, o: KnnOptions): Promise<KnnCheck[]> {
  const found: KnnCheck[] = [];
  for (const network of o.networks ?? (Object.keys(networks) as (keyof typeof networks)[])) {
    const { settings, precisions } = networks[network];
    const narrow = precisions.filter((p) => o.precisions.includes(p));
    const wide: number[] = [];
    if (narrow.length)
      for (const seed of o.seeds) wide.push(await finalKnn(engine, seed, "fp32", [...settings, ...o.settings]));
    for (const precision of narrow) {
      const pairs: Pair[] = [];
      for (const [i, seed] of o.seeds.entries()) {
        const own = await finalKnn(engine, seed, precision, [...settings, ...o.settings]);
        pairs.push({ seed, fp32: wide[i]!, narrow: own });
      }
      found.push(judged(`kNN of ${network}, ${precision}`, pairs));
    }
  }
  return found;
}

/** Whether the pairs agree in the mean. */
export function judged(name: string, pairs: Pair[]): KnnCheck {
  const differences = pairs.map((p) => p.narrow - p.fp32);
  const n = pairs.length;
  const difference = differences.reduce((sum, d) => sum + d, 0) / n;
  const variance = differences.reduce((sum, d) => sum + (d - difference) ** 2, 0) / Math.max(1, n - 1);
  const check = checking(name);
  check.expect(
    Math.abs(difference) <= allowed,
    `The mean over ${n} seeds is ${difference.toFixed(2)} points from fp32's, where ${allowed} is allowed.`,
  );
  return { ...check.found, pairs, difference, se: Math.sqrt(variance / n) };
}

async function finalKnn(
  engine: NativeEngine,
  seed: number,
  precision: Precision,
  settings: readonly string[],
): Promise<number> {
  const out = await mkdtemp(join(tmpdir(), "diptych-knn-"));
  try {
    const written = withSettings(recipes.sample.recipe, [...settings, `seed=${seed}`, `precision=${precision}`]);
    const { knn } = await pretrain({
      recipe: resolveRecipe(written),
      recipeName: "sample",
      out,
      engine,
      resume: false,
      listener: { say: () => undefined },
      stopping: () => false,
    });
    return knn!.last;
  } finally {
    await rm(out, { recursive: true });
  }
}
