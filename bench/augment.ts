/** npm run bench -- augment: MoCo views a second of one core here and by torchvision on PIL images, in alternating blocks. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { augmentation, draw } from "../graphs/augment.js";
import { mocoView } from "../graphs/methods/mocov2.js";
import { augmenter } from "../src/data/augmenter.js";
import type { Image } from "../src/data/index.js";
import { openEngine, type NativeEngine } from "../src/engines/native/index.js";
import { random } from "../src/random.js";
import { trainingLibrary } from "../src/runtimes.js";
import { python } from "./step.js";

/** A block of so many seconds → views a second of CPU time. */
type Block = (seconds: number) => Promise<number>;
interface Case {
  size: number;
  /** Side of the square source image. */
  source: number;
  batch: number;
  blur: boolean;
}

const cases: Case[] = [
  { size: 32, source: 32, batch: 128, blur: false },
  { size: 64, source: 80, batch: 64, blur: true },
  { size: 224, source: 256, batch: 16, blur: true },
];
const rounds = 10;
const seconds = 0.7;

export async function main(): Promise<void> {
  const engine = openEngine({ library: await trainingLibrary(), name: "training", threads: 1 });
  for (const c of cases) {
    const [ours, peer] = [here(engine, c), torchvision(c)];
    await ours.block(2);
    await peer.block(1);
    const pairs: [number, number][] = [];
    for (let i = 0; i < rounds; i++) pairs.push([await ours.block(seconds), await peer.block(seconds)]);
    ours.end();
    peer.end();
    const ratios = pairs.map(([a, b]) => a / b).sort((a, b) => a - b);
    const best = (side: 0 | 1) => Math.max(...pairs.map((p) => p[side])).toFixed(0);
    process.stdout.write(
      `${c.size} px from ${c.source}: diptych ${best(0)}, torchvision on PIL ${best(1)} views a second of one core at best; ` +
        `ratio of neighbouring blocks ${ratios[rounds >> 1]!.toFixed(2)} (${ratios[0]!.toFixed(2)} … ${ratios.at(-1)!.toFixed(2)})\n`,
    );
  }
}

/** Both views of every image of a batch, as training makes them. */
function here(engine: NativeEngine, { size, source, batch, blur }: Case): { block: Block; end: () => void } {
  const view = mocoView(size, blur ? {} : { blur: undefined });
  const noise = random(0, "noise");
  const data = Uint8Array.from({ length: 3 * source * source }, () => noise.integer(256));
  const images: Image[] = Array.from({ length: batch }, () => ({ width: source, height: source, data }));
  const aug = augmenter(engine, (v) => augmentation(v, "float"));
  let step = 0;
  const block: Block = async (least) => {
    const [began, cpu, first] = [performance.now(), process.cpuUsage(), step];
    for (; performance.now() - began < 1000 * least; step++)
      await aug.batch(images, [view], (v, copy, i) =>
        draw(random(0, "augment", 0, step, i, v.name, copy), images[i]!, v),
      );
    const { user, system } = process.cpuUsage(cpu);
    return (1e6 * (step - first) * view.count * batch) / (user + system);
  };
  return { block, end: () => aug.release() };
}

/** python/augment_bench.py: a line with seconds in, a line with its views a second out. */
function torchvision({ size, source, blur }: Case): { block: Block; end: () => void } {
  const script = fileURLToPath(new URL("../../bench/python/augment_bench.py", import.meta.url));
  const options = ["--size", String(size), "--source", String(source), ...(blur ? [] : ["--no-blur"])];
  const child = spawn(python(), [script, ...options], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const block: Block = async (least) => {
    child.stdin.write(`${least}\n`);
    const { value, done } = await lines.next();
    if (done) throw new Error(`${script} ended early; what it said stands above.`);
    return Number(value);
  };
  return { block, end: () => child.stdin.end() };
}
