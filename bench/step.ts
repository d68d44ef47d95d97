/**
 * npm run bench -- step [CASE…]: a training step of each method here, and where PyTorch eager has the case in alternating blocks, with
 * both mallocs of the peer. A round in which others used the processors is measured again, up to three times.
 */
import { execFileSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cases, withPeer, type CaseName } from "./cases.js";
import { python } from "./venv.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const seconds = "8";
const rounds = 3;
/** Processors that others may use on average before a round counts as disturbed. */
const quiet = 0.1;

interface Block {
  img_s: number;
  rss_mb_peak: number;
  other_cpu: number;
}
const measured = (program: string, args: string[]): Block =>
  JSON.parse(execFileSync(program, args, { encoding: "utf8" }).trim().split("\n").at(-1)!) as Block;
const median = (values: number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

const ours = (name: CaseName, threads: string): Block =>
  measured(process.execPath, [join(root, "dist/bench/stepChild.js"), name, threads, seconds]);
const peer = (name: CaseName, threads: string, malloc: string): Block => {
  const script = join(root, "bench/python/step_bench.py");
  const options = ["--case", name, "--threads", threads, "--malloc", malloc, "--no-flops", "--min-seconds", seconds];
  return measured(python(), [script, ...options]);
};

/** One block of each, by name; the quietest of three tries. */
function round(name: CaseName, threads: string): Record<string, Block> {
  let best: Record<string, Block> | undefined;
  const noise = (blocks: Record<string, Block>): number => Math.max(...Object.values(blocks).map((b) => b.other_cpu));
  for (let attempt = 0; attempt < 3 && (!best || noise(best) > quiet); attempt++) {
    const blocks: Record<string, Block> = { diptych: ours(name, threads) };
    if (withPeer.includes(name))
      for (const malloc of ["keep", "default"]) blocks[`PyTorch ${malloc}`] = peer(name, threads, malloc);
    if (!best || noise(blocks) < noise(best)) best = blocks;
  }
  return best!;
}

export async function main(args: string[]): Promise<void> {
  const threads = String(availableParallelism());
  for (const name of (args.length ? args : Object.keys(cases)) as CaseName[]) {
    const taken = Array.from({ length: rounds }, () => round(name, threads));
    const of = (who: string, what: keyof Block): number[] => taken.map((blocks) => blocks[who]![what]);
    const lines = Object.keys(taken[0]!).map((who) => {
      const numbers = `${median(of(who, "img_s")).toFixed(1)} img/s, ${Math.max(...of(who, "rss_mb_peak"))} MB`;
      return `${who} ${numbers} (others ${Math.max(...of(who, "other_cpu"))})`;
    });
    const ratio = taken.map((blocks) => {
      const peers = Object.entries(blocks).flatMap(([who, b]) => (who === "diptych" ? [] : [b.img_s]));
      return blocks.diptych!.img_s / Math.max(...peers);
    });
    const against = withPeer.includes(name) ? `; ratio to the better ${median(ratio).toFixed(2)}` : "";
    process.stdout.write(`${name}, ${threads} threads: ${lines.join("; ")}${against}\n`);
  }
  await Promise.resolve();
}
