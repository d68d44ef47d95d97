/** Blocks of views of one size in a process of its own; prints one JSON line. */
import { augmentation, draw, type Draw } from "../graphs/augment.js";
import { mocoView } from "../graphs/methods/mocov2.js";
import { augmenter } from "../src/data/augmenter.js";
import { openEngine } from "../src/engines/native/index.js";
import { random } from "../src/random.js";
import { trainingLibrary } from "../src/runtimes.js";

const [size, source, batch, seconds] = process.argv.slice(2).map(Number) as [number, number, number, number];
const view = mocoView(size, size === 32 ? { blur: undefined } : {});
const noise = random(0, "noise");
const image = {
  width: source,
  height: source,
  data: Uint8Array.from({ length: 3 * source * source }, () => noise.integer(256)),
};
const images = Array.from({ length: batch }, () => image);
const engine = openEngine({ library: await trainingLibrary(), name: "training", threads: 1 });
const aug = augmenter<Draw>(engine, (v) => augmentation(v, "float"));

let step = 0;
const block = async (least: number): Promise<number> => {
  const began = performance.now();
  const cpu = process.cpuUsage();
  let views = 0;
  while (performance.now() - began < 1000 * least) {
    await aug.batch(images, [view], (v, copy, i) => draw(random(0, "augment", 0, step, i, v.name, copy), image, v));
    step++;
    views += view.count * batch;
  }
  const { user, system } = process.cpuUsage(cpu);
  return (1e6 * views) / (user + system);
};
await block(2);
process.stdout.write(JSON.stringify({ views_per_cpu_second: await block(seconds) }) + "\n");
aug.release();
