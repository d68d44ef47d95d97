/** npm run bench -- augment: MoCo views a second on one thread, at 32, 64 and 224 px. */
import { augmentModel, draw, feedsOf, keyOf } from "../graphs/augment.js";
import { mocoView } from "../graphs/methods/mocov2.js";
import { augmenter } from "../src/data/augmenter.js";
import { openEngine } from "../src/engines/native/index.js";
import { random } from "../src/random.js";
import { trainingLibrary } from "../src/runtimes.js";
import { zeros } from "../src/tensor.js";

export async function main(): Promise<void> {
  const engine = openEngine({ library: await trainingLibrary(), name: "training", threads: 1 });
  for (const [size, source, count] of [
    [32, 32, 4000],
    [64, 80, 3000],
    [224, 256, 400],
  ] as const) {
    const view = { ...mocoView(size), ...(size === 32 && { blur: undefined }) };
    const r = random(0, "bench", size);
    const image = {
      width: source,
      height: source,
      data: Uint8Array.from({ length: 3 * source * source }, () => r.integer(256)),
    };
    const aug = augmenter(engine);
    const out = zeros("float32", [3, size, size]);
    const run = async (): Promise<number> => {
      const cpu = process.cpuUsage();
      for (let i = 0; i < count; i++) {
        const d = draw(r, image, view);
        await aug.one(
          image,
          {
            key: keyOf(d, view, "float"),
            model: () => augmentModel(d, view, "float"),
            crop: d.crop,
            feeds: () => feedsOf(d, view, "float"),
          },
          out,
        );
      }
      const used = process.cpuUsage(cpu);
      return (1e6 * count) / (used.user + used.system);
    };
    await run();
    process.stdout.write(`${size} px from ${source}: ${(await run()).toFixed(0)} views a second of one core\n`);
    aug.release();
  }
}
