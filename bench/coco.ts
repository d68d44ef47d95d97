/**
 * npm run bench -- coco [ROUNDS] [small|large]: whole cold processes of diptych coco-eval, pycocotools, faster-coco-eval and hotcoco on the same
 * files, in alternating order. small: as many objects and detections as val2017; large: 500,000 detections.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheDir } from "../src/cache.js";
import { python } from "./venv.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const script = (name: string): string => join(root, "bench", "python", name);
const sizes = { small: "1", large: "14" };
const packages = { pycocotools: "pycocotools", faster_coco_eval: "faster-coco-eval", hotcoco: "hotcoco" };

interface Run {
  wall: number;
  cpu: number;
  rss: number;
  stats: number[];
}

export async function main([rounds = "3", ...wanted]: string[]): Promise<void> {
  const py = python(packages);
  for (const size of (wanted.length ? wanted : ["small"]) as (keyof typeof sizes)[]) {
    const files = join(cacheDir("coco-bench"), size);
    if (!existsSync(join(files, "dt_segm.json"))) {
      mkdirSync(files, { recursive: true });
      const args = [script("coco_gen.py"), "synth", files, "--dets-per-gt", sizes[size]];
      execFileSync(py, args, { stdio: ["ignore", "inherit", "inherit"] });
    }
    for (const iou of ["bbox", "segm"]) compare(py, files, size, iou, Number(rounds));
  }
  await Promise.resolve();
}

function compare(py: string, files: string, size: string, iou: string, rounds: number): void {
  const [gt, dt] = [join(files, "gt.json"), join(files, `dt_${iou}.json`)];
  const peer = (name: string) => [py, script("coco_peer.py"), name, gt, dt, iou];
  const contestants: Record<string, { command: string[]; env?: Record<string, string> }> = {
    diptych: {
      command: [
        process.execPath,
        join(root, "bin", "diptych.cjs"),
        "coco-eval",
        "--gt",
        gt,
        "--dt",
        dt,
        "--iou",
        iou,
        "--json",
      ],
    },
    hotcoco: { command: peer("hotcoco") },
    "hotcoco, one thread": { command: peer("hotcoco"), env: { RAYON_NUM_THREADS: "1" } },
    "faster-coco-eval": { command: peer("faster-coco-eval") },
    pycocotools: { command: peer("pycocotools") },
  };
  const runs = new Map(Object.keys(contestants).map((name) => [name, [] as Run[]]));
  for (let round = 0; round < rounds; round++)
    for (const [name, { command, env }] of Object.entries(contestants))
      runs.get(name)!.push(measured(py, command, env));
  const least = (name: string, of: (r: Run) => number): number => Math.min(...runs.get(name)!.map(of));
  for (const name of runs.keys()) {
    const ratio = (of: (r: Run) => number): string => `${(least("pycocotools", of) / least(name, of)).toFixed(1)}x`;
    const equal = runs.get(name)![0]!.stats.every((s, i) => s === runs.get("pycocotools")![0]!.stats[i]);
    process.stdout.write(
      `${size} ${iou} ${name}: ${least(name, (r) => r.wall).toFixed(3)} s (${ratio((r) => r.wall)} pycocotools), ` +
        `cpu ${least(name, (r) => r.cpu).toFixed(3)} s (${ratio((r) => r.cpu)}), ${Math.max(...runs.get(name)!.map((r) => r.rss)).toFixed(0)} MB, ` +
        `stats ${equal ? "equal in every bit" : "differ"}\n`,
    );
  }
}

/**
 * One cold process, from its start to its end. Where NODE_EXTRA_CA_CERTS is set Node reads those certificates, used or not, before it starts (40 ms
 * with a system's whole bundle), which says nothing about an evaluation: it is unset.
 */
function measured(py: string, command: string[], env: Record<string, string> = {}): Run {
  const { status, stdout, stderr } = spawnSync(py, [script("measured.py"), ...command], {
    encoding: "utf8",
    env: { ...process.env, NODE_EXTRA_CA_CERTS: undefined, ...env },
    maxBuffer: 1 << 26,
  });
  if (status !== 0) throw new Error(`${command.join(" ")} failed:\n${stderr}`);
  const end = stdout.trimEnd().lastIndexOf("\n");
  const { stats } = JSON.parse(stdout.slice(0, end)) as { stats: number[] };
  return { ...(JSON.parse(stdout.slice(end)) as Omit<Run, "stats">), stats };
}
