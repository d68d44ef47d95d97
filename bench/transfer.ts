/** What the benchmarks of transfer share: a judge here beside its peer in torch, one thread and one process each, a JSON line a side. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { DenseEvaluator } from "../evaluators/evaluator.js";
import { initialWeights, type EncoderInfo } from "../graphs/encoder.js";
import { writeSafetensors } from "../src/artifacts/safetensors.js";
import { epochOrder } from "../src/data/loader.js";
import { openEngine } from "../src/engines/native/index.js";
import { trainingLibrary } from "../src/runtimes.js";
import { initialTensors, type TrainingStep } from "../src/step.js";
import { imagenetStatistics } from "../src/views.js";
import { python } from "./venv.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
export const info: EncoderInfo = {
  backbone: "resnet18",
  options: {},
  size: 224,
  resize: 256,
  ...imagenetStatistics,
  method: "none",
  recipe: "none",
};

/** Of a judge's options, what both sides go by. */
interface Schedule {
  seed: number;
  epochs: number;
  batchSize: number;
}

/** The judge as its command runs it, and `images` of the training split; the first epoch is not timed. */
export async function timed<O extends Schedule, D extends { note: string }>(
  judge: DenseEvaluator<O, D>,
  folder: string,
  o: O,
  images: (data: D) => number,
  metrics: readonly string[],
): Promise<void> {
  const engine = openEngine({ library: await trainingLibrary(), name: "training", threads: 1 });
  const data = await judge.open(folder, o);
  const marks: { wall: number; cpu: number }[] = [];
  const say = (line: string): void => {
    const { user, system } = process.cpuUsage();
    marks.push({ wall: performance.now() / 1000, cpu: (user + system) / 1e6 });
    process.stderr.write(`${line}\n`);
  };
  const network = { info, tensors: initialWeights(info, o.seed) };
  const result = await judge.evaluate({ engine, network, data, say }, o);
  const seen = (marks.length - 1) * o.batchSize * Math.floor(images(data) / o.batchSize);
  const spent = (what: "wall" | "cpu"): number => marks.at(-1)![what] - marks[0]![what];
  const line = {
    side: "diptych",
    seed: o.seed,
    ...Object.fromEntries(metrics.flatMap((m) => (m in result.metrics ? [[m, result.metrics[m]]] : []))),
    img_s: seen / spent("wall"),
    img_cpu_s: seen / spent("cpu"),
    rss_mb_peak: Math.round(process.resourceUsage().maxRSS / 1024),
  };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** The images of each step of a run over n images, in the order that the judge takes them, with what `more` says of the step. */
export function plannedSteps<T>(
  n: number,
  o: Schedule,
  more: (step: { s: number; epoch: number; batch: number; indices: readonly number[]; stepsPerEpoch: number }) => T,
) {
  const stepsPerEpoch = Math.floor(n / o.batchSize);
  const steps = Array.from({ length: o.epochs * stepsPerEpoch }, (_, s) => {
    const [epoch, batch] = [Math.floor(s / stepsPerEpoch), s % stepsPerEpoch];
    const indices = [...epochOrder(o.seed, epoch, n).subarray(batch * o.batchSize, (batch + 1) * o.batchSize)];
    return { indices, ...more({ s, epoch, batch, indices, stepsPerEpoch }) };
  });
  return { stepsPerEpoch, steps };
}

/** Runs bench/python/NAME.py on a folder of `files`, with the tensors that the step starts from; the backbone's stand below `path`. */
export function runPeer(
  name: string,
  step: TrainingStep,
  seed: number,
  path: string,
  files: Record<string, string | Uint8Array>,
  packages?: Readonly<Record<string, string>>,
): void {
  const given = Object.entries(initialWeights(info, seed)).map(([own, t]) => [`${path}.${own}`, t] as const);
  const initial = Object.entries(initialTensors(step, seed, Object.fromEntries(given)));
  const weights = initial.filter(([own]) => !own.startsWith("optimizer."));
  const folder = mkdtempSync(join(tmpdir(), `${name}-`));
  const all = { "initial.safetensors": writeSafetensors(Object.fromEntries(weights)), ...files };
  for (const [file, content] of Object.entries(all)) writeFileSync(join(folder, file), content);
  execFileSync(python(packages), [join(root, `bench/python/${name}.py`), folder], {
    stdio: "inherit",
    env: { ...process.env, OMP_NUM_THREADS: "1" },
  });
  rmSync(folder, { recursive: true });
}

type Side = (data: string, seed: number, epochs: number) => Promise<void>;

/** The flags, and both sides in a process each unless --side names one. */
export async function compare(
  name: string,
  args: string[],
  asked: string,
  usualEpochs: number,
  sides: Record<"diptych" | "torch", Side>,
): Promise<void> {
  const { data, seed, epochs, side } = parseArgs({
    args,
    options: {
      data: { type: "string" },
      seed: { type: "string", default: "0" },
      epochs: { type: "string", default: String(usualEpochs) },
      side: { type: "string" },
    },
  }).values;
  if (!data) throw new Error(`Which data? --data FOLDER ${asked}`);
  if (!(Number(epochs) >= 2))
    throw new Error(`Expected two --epochs or more, since the first is not timed, but received ${epochs}.`);
  if (side === "diptych" || side === "torch") return sides[side](data, Number(seed), Number(epochs));
  for (const one of Object.keys(sides))
    execFileSync(process.execPath, [join(root, "dist/bench/index.js"), name, ...args, "--side", one], {
      stdio: "inherit",
    });
}
