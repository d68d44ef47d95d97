/** Steps of the benchmark's cases on the device in alternating blocks, each a process of its own, beside PyTorch on the same device. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Precision } from "../../graphs/precision.js";
import type { Device } from "../../src/onnx/graph.js";
import type { ChildOptions } from "../stepChild.js";

const root = fileURLToPath(new URL("../../../", import.meta.url));

export interface Block {
  img_s: number;
  step_ms_median: number;
  memory_mb: number | null;
}
export interface Speed {
  case: string;
  /** Each block of a contender, or why there is none. */
  blocks: Record<string, Block[] | string>;
}
export interface SpeedOptions extends Omit<ChildOptions, "precision" | "device"> {
  device: Device;
  precisions: readonly Precision[];
  rounds: number;
  seconds: number;
  threads: number;
  /** Python with PyTorch; without it the peers are left out. */
  python?: string;
}

/** PyTorch's ways: arguments of python/gpu_bench.py. */
const peers = {
  "eager fp32": ["--precision", "fp32"],
  "eager tf32": ["--precision", "tf32"],
  "AMP fp16": ["--precision", "fp16"],
  "AMP bf16": ["--precision", "bf16"],
  "AMP fp16 channels_last": ["--precision", "fp16", "--layout", "nhwc"],
  "AMP fp16 channels_last compiled": ["--precision", "fp16", "--layout", "nhwc", "--compile"],
} as const;

function measured(program: string, args: readonly string[]): Block | string {
  try {
    const printed = execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
    return JSON.parse(printed.trim().split("\n").at(-1)!) as Block;
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    return (stderr?.trim().split("\n").at(-1) || message).slice(0, 300);
  }
}

export function speedOf(name: string, o: SpeedOptions): Speed {
  const { precisions, rounds, seconds, threads, python, ...rest } = o;
  const ours = precisions.map((precision) => {
    const options = JSON.stringify({ ...rest, precision } satisfies ChildOptions);
    const args = [join(root, "dist/bench/stepChild.js"), name, String(threads), String(seconds), options];
    return [`diptych ${precision}`, () => measured(process.execPath, args)] as const;
  });
  const script = join(root, "bench/python/gpu_bench.py");
  const theirs = Object.entries(python ? peers : {}).map(([who, how]) => {
    const size = o.batch ? ["--batch", String(o.batch)] : [];
    const args = [script, "--case", name, "--device", o.device, "--seconds", String(seconds), ...size, ...how];
    return [`PyTorch ${who}`, () => measured(python!, args)] as const;
  });
  const blocks: Speed["blocks"] = {};
  for (let round = 0; round < rounds; round++)
    for (const [who, measure] of [...ours, ...theirs]) {
      if (typeof blocks[who] === "string") continue; // it failed before, and would again
      const block = measure();
      blocks[who] = typeof block === "string" ? block : [...(blocks[who] ?? []), block];
    }
  return { case: name, blocks };
}
