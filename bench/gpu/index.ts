/**
 * npm run gpu -- [--out gpu.json]: on a machine with a card and no need of a network, what the card computes against the CPU (op rules in
 * both dialects, steps of every method), what a run survives, then the benchmark beside that machine's PyTorch; one JSON.
 * --device cpu: the same script on the CPU with tiny sizes, as a test of itself.
 */
import { execFileSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Precision } from "../../graphs/precision.js";
import type { EngineName } from "../../src/engines/index.js";
import { cudaObstacles, driverSentence, readDriver } from "../../src/engines/native/cuda.js";
import { openEngine, type CudaOptions, type NativeEngine } from "../../src/engines/native/index.js";
import { oneOf } from "../../src/names.js";
import type { Device } from "../../src/onnx/graph.js";
import { trainingLibrary } from "../../src/runtimes.js";
import { failingAt } from "../../test/failedStep.js";
import { gpuCases } from "../cases.js";
import type { Check } from "./check.js";
import { measureConvolutions, resnetLayers, type Timed } from "./convolutions.js";
import { checkKnn } from "./knn.js";
import { checkFailure, checkResume } from "./recovery.js";
import { checkRules } from "./rules.js";
import { speedOf, table, type Speed } from "./speed.js";
import { allMethods, checkSteps, stepCases } from "./steps.js";
import { scaledSamples } from "./waits.js";

const { values: flags } = parseArgs({
  options: {
    device: { type: "string", default: "cuda" },
    "device-id": { type: "string", default: "0" },
    "cuda-libraries": { type: "string" },
    out: { type: "string", default: "gpu.json" },
    /** Steps of each method. */
    steps: { type: "string", default: "50" },
    /** The final kNN of 16 bits against fp32's, over three seeds. */
    knn: { type: "boolean", default: false },
    /** The forms of convolutions, each for itself. */
    convolutions: { type: "boolean", default: false },
    /** Of the benchmark; none: only the checks. */
    cases: { type: "string", default: Object.keys(gpuCases).join() },
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "10" },
    /** In place of each case's own. */
    batch: { type: "string" },
    /** Photographs that the runs are fed with; default those of samples/, scaled up. */
    images: { type: "string" },
  },
});
const say = (line: string): void => void process.stderr.write(`${line}\n`);

/** How much of it all a device is asked for. */
interface Extent {
  /** Each so-manieth sample of an op. */
  every: number;
  methods: typeof allMethods;
  precisions: Precision[];
  /** Of the benchmark. */
  timed: Precision[];
  steps: number;
  cases: string[];
  rounds: number;
  seconds: number;
  batch?: number;
  /** Photographs scaled up, where no others are given. */
  photographs: number;
}
const asAsked: Extent = {
  every: 1,
  methods: allMethods,
  precisions: ["fp32", "tf32", "fp16", "bf16"],
  timed: ["fp32", "tf32", "fp16", "bf16"],
  steps: Number(flags.steps),
  cases: flags.cases.split(",").filter((name) => name && name !== "none"),
  rounds: Number(flags.rounds),
  seconds: Number(flags.seconds),
  batch: flags.batch ? Number(flags.batch) : undefined,
  photographs: 512,
};
const tiny: Extent = {
  every: 9,
  methods: ["mocov2", "aps"],
  precisions: ["fp32", "fp16"],
  timed: ["fp32"],
  steps: 2,
  cases: ["mocov2_r18_64"],
  rounds: 1,
  seconds: 0.1,
  batch: 4,
  photographs: 8,
};

/** The card in the driver's words. */
function card(deviceId: string): string | null {
  try {
    const query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader", `--id=${deviceId}`];
    return execFileSync("nvidia-smi", query, { encoding: "utf8" }).trim();
  } catch {
    return null;
  }
}

/** A Python with PyTorch that sees the card; undefined where there is none. */
function torchPython(): string | undefined {
  const python = process.env.DIPTYCH_PYTHON ?? "python3";
  try {
    execFileSync(python, ["-c", "import torch; assert torch.cuda.is_available()"], { stdio: "ignore" });
    return python;
  } catch {
    return undefined;
  }
}

/** A step that does not fit: on a card one that is given a gigabyte, on the CPU one that says so. */
function checkMemory(engine: NativeEngine, limited: NativeEngine): Promise<Check> {
  if (engine.device === "cpu") return checkFailure(failingAt(engine, 1), []);
  const large = ["data.size=224", "batchSize=64", "backbone.width=64"];
  return checkFailure({ ...engine, trainingSession: limited.trainingSession }, large);
}

async function main(device: Device): Promise<void> {
  const cuda = { deviceId: Number(flags["device-id"]), libraries: flags["cuda-libraries"] };
  if (device === "cuda") {
    const obstacle = driverSentence(readDriver(), cuda.deviceId) ?? cudaObstacles(cuda)[0];
    if (obstacle) throw new Error(obstacle);
  }
  const { every, methods, precisions, timed, steps, cases, photographs, ...benchmark } =
    device === "cuda" ? asAsked : tiny;
  const threads = device === "cuda" ? availableParallelism() : 1;
  const library = await trainingLibrary({ device, announce: say });
  const open = (name: EngineName, more: CudaOptions = {}) =>
    openEngine({ library, name, device, memory: "device", cuda: { ...cuda, ...more }, threads });
  const engines = {
    training: open("training"),
    portable: open("portable"),
    captured: open("portable", { graphs: true }),
  };
  const cpu = openEngine({ library, name: "training", threads });

  say(`op rules on ${device} against the CPU`);
  const checks = [await checkRules(engines.training, cpu, every)];
  say(`${steps} steps of ${methods.join(", ")}`);
  checks.push(...(await checkSteps(engines, cpu, stepCases(precisions, methods), steps)));
  say("resuming, and running out of memory");
  checks.push(
    await checkResume(engines.training),
    await checkMemory(engines.training, open("training", { memoryLimit: 1e9 })),
  );
  if (flags.knn) {
    say("kNN of runs in 16 bits against fp32");
    checks.push(...(await checkKnn(engines.training, { precisions, seeds: [0, 1, 2], settings: ["epochs=20"] })));
  }
  const convolutions: Timed[] = [];
  if (flags.convolutions) {
    say("forms of convolutions");
    const { check, times } = await measureConvolutions(engines.training, resnetLayers, benchmark.batch ?? 256, 20);
    checks.push(check);
    convolutions.push(...times);
    for (const { layer, what, form, ms } of times)
      say(`  ${layer}: ${what} by ${form}: ${typeof ms === "string" ? ms : `${ms.toFixed(2)} ms`}`);
  }
  for (const { check, failed } of checks) for (const sentence of failed) say(`${check}: ${sentence}`);

  const python = device === "cuda" ? torchPython() : undefined;
  const peers = python ?? "PyTorch that sees a card is not here: name its Python with DIPTYCH_PYTHON";
  const speeds: Speed[] = [];
  const aside = await mkdtemp(join(tmpdir(), "diptych-images-"));
  const images = flags.images ?? (await scaledSamples(aside, cases.length ? photographs : 0));
  for (const name of cases) {
    say(`steps of ${name}`);
    speeds.push(speedOf(name, { ...benchmark, ...cuda, device, precisions: timed, threads, python, images }));
    table(speeds.at(-1)!).forEach(say);
  }
  await rm(aside, { recursive: true });

  const passed = checks.every((c) => c.failed.length === 0 && c.compared > 0);
  const machine = { card: card(flags["device-id"]), library: engines.training.version, node: process.version, threads };
  await writeFile(
    flags.out,
    JSON.stringify({ device, machine, passed, checks, peers, speeds, convolutions }, null, 2) + "\n",
  );
  say(`${checks.length} checks ${passed ? "passed" : "ran, and not all passed"}: ${flags.out}`);
  if (!passed) process.exitCode = 1;
}

const devices = { cuda: "cuda", cpu: "cpu" } as const satisfies Record<string, Device>;
const start = async () => main(oneOf<Device>("device", flags.device, devices)); // a misspelt one is no check of a card
await start().catch((error: Error) => {
  say(error.message);
  process.exitCode = 1;
});
