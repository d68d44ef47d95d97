/** One block of steps of one case in a process of its own; prints one JSON line. */
import { readFile } from "node:fs/promises";
import { packageStep } from "../src/artifacts/index.js";
import { openEngine } from "../src/engines/native/index.js";
import { trainingLibrary } from "../src/runtimes.js";
import { initialTensors } from "../src/step.js";
import { caseInputs, cases, caseStep, type CaseName } from "./cases.js";

const [name, threads, seconds] = process.argv.slice(2) as [CaseName, string, string];
const step = caseStep(cases[name], "training");
const engine = openEngine({ library: await trainingLibrary(), name: "training", threads: Number(threads) });
const session = await engine.trainingSession(packageStep(step, initialTensors(step, 0), ["training"]));
const inputs = caseInputs(step);
const scalars = { lr: 0.03, momentum: 0.999, lossLambda: 0.5 };
for (let i = 0; i < 2; i++) await session.step(inputs, scalars);
/** Seconds of processor time that the whole machine, and this process, have used. */
const used = async (): Promise<[machine: number, own: number]> => {
  const stat = await readFile("/proc/stat", "utf8").catch(() => "");
  const ticks = stat.split("\n", 1)[0]!.split(/\s+/).slice(1, 8).map(Number);
  const { user, system } = process.cpuUsage();
  return [ticks.reduce((sum, v, i) => (i === 3 || i === 4 ? sum : sum + v), 0) / 100, (user + system) / 1e6];
};
const times: number[] = [];
const before = await used();
const began = performance.now();
while (times.length < 4 || performance.now() - began < 1000 * Number(seconds)) {
  const start = performance.now();
  await session.step(inputs, scalars);
  times.push(performance.now() - start);
}
const wall = (performance.now() - began) / 1000;
const after = await used();
const others = after[0] - before[0] - (after[1] - before[1]);
times.sort((a, b) => a - b);
const median = times[times.length >> 1]!;
const rss = process.resourceUsage().maxRSS / 1024;
process.stdout.write(
  JSON.stringify({
    step_ms_median: median,
    img_s: (1000 * cases[name].batch) / median,
    rss_mb_peak: Math.round(rss),
    other_cpu: Math.max(0, +(others / wall).toFixed(2)),
  }) + "\n",
);
session.release();
