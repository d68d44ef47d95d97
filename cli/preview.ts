/** A contact sheet of a recipe's views. */
import { writeFile } from "node:fs/promises";
import { augmentation, centred, draw, type Draw } from "../graphs/augment.js";
import { augmenter } from "../src/data/augmenter.js";
import { decode, encodePng } from "../src/data/decode.js";
import type { Image } from "../src/data/index.js";
import type { Engine } from "../src/engines/index.js";
import { random } from "../src/random.js";
import type { ViewSpec } from "../src/views.js";
import { recipeNamed } from "./plan.js";
import { resolveRecipe } from "./recipes/schema.js";
import { viewsOf } from "./run.js";

/** One row a view: the picture first, then `count` draws, without normalisation. */
export async function preview(
  engine: Engine,
  recipeName: string,
  file: string,
  { out, count, seed }: { out: string; count: number; seed: number },
): Promise<void> {
  const recipe = resolveRecipe((await recipeNamed(recipeName)).input);
  const image = await decode(file, recipe.data.shortSide, recipe.data.channels).catch((e: Error) => {
    throw new Error(`${file} cannot be read as a picture: ${e.message.split("\n")[0]}`, { cause: e });
  });
  const aug = augmenter(engine, (view) => augmentation(view, recipe.pixels));
  const rows = await Promise.all(
    viewsOf(recipe).map(async (spec) => {
      const view: ViewSpec = { ...spec, count: 1, normalize: undefined };
      const draws: Draw[] = [
        centred(image, 1, 1),
        ...Array.from({ length: count }, (_, i) => draw(random(seed, "preview", spec.name, i), image, view)),
      ];
      const tiles = await aug.each(
        draws.map(() => image),
        view,
        (i) => draws[i]!,
      );
      const { data } = await tiles.read();
      tiles.release();
      const area = recipe.data.channels * view.size * view.size;
      return draws.map((_, i) => (data as Float32Array).subarray(i * area, (i + 1) * area));
    }),
  );
  await writeFile(out, await encodePng(sheet(rows, recipe.data.size, recipe.data.channels)));
  aug.release();
}

/** Tiles [C,S,S] in 0–1 side by side with two pixels between. */
function sheet(rows: Float32Array[][], size: number, channels: number): Image {
  const [pitch, columns] = [size + 2, Math.max(...rows.map((r) => r.length))];
  const [width, height] = [columns * pitch - 2, rows.length * pitch - 2];
  const data = new Uint8Array(channels * width * height).fill(255);
  rows.forEach((row, r) =>
    row.forEach((tile, c) => {
      for (let channel = 0; channel < channels; channel++)
        for (let y = 0; y < size; y++)
          for (let x = 0; x < size; x++)
            data[(channel * height + r * pitch + y) * width + c * pitch + x] = Math.round(
              255 * Math.min(1, Math.max(0, tile[(channel * size + y) * size + x]!)),
            );
    }),
  );
  return { width, height, data };
}
