/** npm run bench -- step [CASE…]: a training step of each method here, and where PyTorch eager has the case in alternating blocks, with both mallocs of the peer. */
import { execFileSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cases, withPeer, type CaseName } from "./cases.js";
import { python } from "./venv.js";

const root = fileURLToPath(new URL("../../", import.meta.url));

interface Block {
  step_ms_median: number;
  img_s: number;
  rss_mb_peak: number;
  other_cpu?: number;
}
const parsed = (text: string): Block => JSON.parse(text.trim().split("\n").at(-1)!) as Block;
const median = (values: number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

export async function main(args: string[]): Promise<void> {
  const threads = String(availableParallelism());
  const names = (args.length ? args : Object.keys(cases)) as CaseName[];
  for (const name of names) {
    const py = withPeer.includes(name) ? python() : undefined;
    const ours: Block[] = [];
    const peers: Record<string, Block[]> = { default: [], keep: [] };
    for (let round = 0; round < 2; round++) {
      ours.push(
        parsed(
          execFileSync(process.execPath, [join(root, "dist/bench/stepChild.js"), name, threads, "10"], {
            encoding: "utf8",
          }),
        ),
      );
      for (const malloc of py ? ["keep", "default"] : [])
        peers[malloc]!.push(
          parsed(
            execFileSync(
              py!,
              [
                join(root, "bench/python/step_bench.py"),
                "--case",
                name,
                "--threads",
                threads,
                "--malloc",
                malloc,
                "--no-flops",
                "--min-seconds",
                "10",
              ],
              {
                encoding: "utf8",
              },
            ),
          ),
        );
    }
    const speed = (blocks: Block[]) => median(blocks.map((b) => b.img_s));
    const memory = (blocks: Block[]) => Math.max(...blocks.map((b) => b.rss_mb_peak));
    if (!py) {
      process.stdout.write(`${name}: diptych ${speed(ours).toFixed(1)} img/s, ${memory(ours)} MB\n`);
      continue;
    }
    const best = Object.values(peers).sort((a, b) => speed(b) - speed(a))[0]!;
    process.stdout.write(
      `${name}: diptych ${speed(ours).toFixed(1)} img/s, ${memory(ours)} MB; PyTorch keep ${speed(peers.keep!).toFixed(1)} img/s, ${memory(peers.keep!)} MB, ` +
        `default ${speed(peers.default!).toFixed(1)} img/s, ${memory(peers.default!)} MB; ratio ${(speed(ours) / speed(best)).toFixed(2)} (others used ${Math.max(...best.map((b) => b.other_cpu ?? 0))} cores)\n`,
    );
  }
  await Promise.resolve();
}
