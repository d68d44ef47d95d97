/** One block of steps of one case in a process of its own; prints one JSON line. NAME THREADS SECONDS [OPTIONS as JSON] */
import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { caseInputs } from "./cases.js";
import { caseOf, caseScalars, openCase, type CaseOptions } from "./openCase.js";

const [name, threads, seconds, given = "{}"] = process.argv.slice(2) as [string, string, string, string?];
const options = JSON.parse(given) as CaseOptions;
const chosen = caseOf(name, options.batch);
const { engine, step, session } = await openCase(chosen, Number(threads), options);
/** Megabytes in use on the card: its arena keeps the most that the steps took. */
const memory = (): number | null => {
  if (options.device !== "cuda") return null;
  const query = ["--query-gpu=memory.used", "--format=csv,noheader,nounits", `--id=${options.deviceId ?? 0}`];
  return Number(execFileSync("nvidia-smi", query, { encoding: "utf8" }));
};
const inputs = await engine.upload(caseInputs(step)); // there before the first step, as the peers' are
for (let i = 0; i < 2; i++) await session.step(inputs, caseScalars);
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
  await session.step(inputs, caseScalars);
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
    img_s: (1000 * chosen.batch) / median,
    memory_mb: memory(),
    rss_mb_peak: Math.round(rss),
    other_cpu: Math.max(0, +(others / wall).toFixed(2)),
  }) + "\n",
);
session.release();
