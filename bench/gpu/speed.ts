/** Steps of the benchmark's cases on the device in alternating blocks, each a process of its own, beside PyTorch on the same device. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Precision } from "../../graphs/precision.js";
import type { Device } from "../../src/onnx/graph.js";
import type { CaseOptions } from "../openCase.js";
import { profiled, type Profile } from "./profile.js";
import { printed, waitsOf, type Wait } from "./waits.js";

const root = fileURLToPath(new URL("../../../", import.meta.url));

export interface Block {
  img_s: number;
  step_ms_median: number;
  /** In use on the card; null on the CPU. */
  memory_mb: number | null;
}
export interface Speed {
  case: string;
  /** Each block of a contender, or why there is none. */
  blocks: Record<string, Block[] | string>;
  /** Of the training artifacts in this precision: where a step's time goes, and how much of a run is waiting for its batches. */
  looked: Precision;
  profile: Profile | string;
  waits: Record<"synthetic" | "images", Wait | string>;
}
export interface SpeedOptions extends Omit<CaseOptions, "precision" | "engine" | "device"> {
  device: Device;
  precisions: readonly Precision[];
  rounds: number;
  seconds: number;
  threads: number;
  /** Python with PyTorch; without it the peers are left out. */
  python?: string;
  /** A folder of photographs. */
  images: string;
}

/** Our ways to package a step. */
const packagings = {
  "training artifacts": { engine: "training" },
  "step graph": { engine: "portable" },
  "step graph, CUDA graphs": { engine: "portable", graphs: true },
} as const satisfies Record<string, CaseOptions>;

/** PyTorch's ways: arguments of python/gpu_bench.py. */
const peers = {
  "eager fp32": ["--precision", "fp32"],
  "eager tf32": ["--precision", "tf32"],
  "AMP fp16": ["--precision", "fp16"],
  "AMP bf16": ["--precision", "bf16"],
  "AMP fp16 channels_last": ["--precision", "fp16", "--layout", "nhwc"],
  "AMP fp16 channels_last compiled": ["--precision", "fp16", "--layout", "nhwc", "--compile"],
} as const;

export function speedOf(name: string, o: SpeedOptions): Speed {
  const { precisions, rounds, seconds, threads, python, images, ...rest } = o;
  const stepChild = (length: number, options: CaseOptions) => [
    join(root, "dist/bench/stepChild.js"),
    ...[name, String(threads), String(length), JSON.stringify({ ...rest, ...options })],
  ];
  const ours = precisions.flatMap((precision) =>
    Object.entries(packagings).map(([packaging, how]) => {
      const args = stepChild(seconds, { ...how, precision });
      return [`diptych ${precision}, ${packaging}`, () => printed<Block>(process.execPath, args)] as const;
    }),
  );
  const script = join(root, "bench/python/gpu_bench.py");
  const theirs = Object.entries(python ? peers : {}).map(([who, how]) => {
    const size = o.batch ? ["--batch", String(o.batch)] : [];
    const args = [script, "--case", name, "--device", o.device, "--seconds", String(seconds), ...size, ...how];
    return [`PyTorch ${who}`, () => printed<Block>(python!, args)] as const;
  });
  const blocks: Speed["blocks"] = {};
  for (let round = 0; round < rounds; round++)
    for (const [who, measure] of [...ours, ...theirs]) {
      if (typeof blocks[who] === "string") continue; // it failed before, and would again
      const block = measure();
      blocks[who] = typeof block === "string" ? block : [...(blocks[who] ?? []), block];
    }
  const looked = precisions.includes("fp16") ? "fp16" : precisions[0]!;
  return {
    case: name,
    blocks,
    looked,
    profile: profiled(process.execPath, stepChild(0, { precision: looked }), o.device === "cuda"),
    waits: waitsOf(name, { ...rest, precision: looked, threads, seconds, images }),
  };
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;
const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** What was measured, in lines for people. */
export function table({ case: name, blocks, looked, profile, waits }: Speed): string[] {
  const speeds = Object.entries(blocks).map(([who, taken]) => {
    if (typeof taken === "string") return [who, taken];
    const rate = median(taken.map((b) => b.img_s)).toFixed(1);
    const { memory_mb } = taken.at(-1)!;
    return [who, `${rate.padStart(9)} img/s${memory_mb === null ? "" : `${String(memory_mb).padStart(8)} MB`}`];
  });
  const largest = (p: Profile) => p.shares.slice(0, 6).map((s) => `${s.name.slice(0, 40)} ${percent(s.share)}`);
  const time =
    typeof profile === "string"
      ? [`time of ${looked}`, profile]
      : [`time of ${looked}, ${profile.of}`, largest(profile).join(", ")];
  const waiting = Object.entries(waits).map(([feed, w]) => [
    `${looked}, waiting for ${feed}`,
    typeof w === "string" ? w : `${percent(w.wait_share)} of the loop, ${w.img_s.toFixed(1)} img/s`,
  ]);
  const lines = [...speeds, time, ...waiting] as [string, string][];
  const width = Math.max(...lines.map(([what]) => what.length));
  return [name, ...lines.map(([what, said]) => `  ${what.padEnd(width)}  ${said}`)];
}
