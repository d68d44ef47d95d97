/** Run folders, and the data that a recipe names. */
import { readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { cached, datasets, subset, type Dataset, type DatasetName } from "../src/data/index.js";
import { resolveRecipe, type Recipe } from "./recipes/schema.js";

const packageRoot = fileURLToPath(new URL("../..", import.meta.url));

/** Opens the data of a recipe; "samples" means the photographs that come with the package. */
export async function openData(recipe: Recipe, split: "train" | "val"): Promise<Dataset | undefined> {
  const { name, root, shortSide, channels, limit, cache } = recipe.data;
  const bundled = root === "samples" ? join(packageRoot, "samples").replace(/dist[\\/]samples$/, "samples") : root;
  const data = await datasets[name as DatasetName].open({
    root: bundled,
    split,
    shortSide,
    channels,
    limit: split === "train" ? limit : undefined,
  });
  return data && cached(data, cache);
}

/** 1 for each image that decodes; the others are named, and 0. */
export async function readability(d: Dataset, say: (line: string) => void): Promise<Uint8Array> {
  const marks = new Uint8Array(d.length);
  for (let start = 0; start < d.length; start += 64) {
    const ids = Array.from({ length: Math.min(64, d.length - start) }, (_, i) => start + i);
    const read = await Promise.allSettled(ids.map((i) => d.image(i)));
    read.forEach((result, k) => {
      if (result.status === "fulfilled") marks[ids[k]!] = 1;
      else say(`${d.key(ids[k]!)} cannot be read and is left out: ${(result.reason as Error).message.split("\n")[0]}`);
    });
  }
  return marks;
}

/** The images with a mark. */
export const readableOnes = (d: Dataset, marks: ArrayLike<number>): Dataset => {
  const good = Array.from({ length: d.length }, (_, i) => i).filter((i) => marks[i]);
  return good.length === d.length ? d : subset(d, good);
};

/** Only the images that decode, for the judges. */
export const readableOnly = async (d: Dataset, say: (line: string) => void): Promise<Dataset> =>
  readableOnes(d, await readability(d, say));

/** Writes a file whole or not at all. */
export async function writeAtomically(file: string, bytes: Uint8Array | string): Promise<void> {
  await writeFile(`${file}.writing`, bytes);
  await rename(`${file}.writing`, file);
}

/** Writes recipe.json. */
export async function writeRecipe(out: string, recipe: Recipe, name: string): Promise<void> {
  await writeFile(join(out, "recipe.json"), JSON.stringify({ recipe: name, ...recipe }, null, 2) + "\n");
}

/** The recipe of a run folder, resolved as it was; `added` are options that it was written before. */
export async function recipeIn(out: string): Promise<{ name: string; recipe: Recipe; added: string[] }> {
  const file = join(out, "recipe.json");
  const text = await readFile(file, "utf8").catch(() => {
    throw new Error(`${resolve(out)} is not a run: it has no recipe.json.`);
  });
  const { recipe: name, ...saved } = JSON.parse(text) as Recipe & { recipe: string };
  const recipe = resolveRecipe(saved);
  const known = new Set(optionsIn(saved));
  return { name, recipe, added: optionsIn(recipe).filter((option) => !known.has(option)) };
}

/** data.root, data.size, …: the paths of all that a recipe says. */
const optionsIn = (part: object, path = ""): string[] =>
  Object.entries(part).flatMap(([key, value]) =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? optionsIn(value as object, `${path}${key}.`)
      : [path + key],
  );

/** runs/NAME-1, -2, …: the first that does not exist. */
export async function freshRun(name: string): Promise<string> {
  const taken = new Set(await readdir("runs").catch(() => [] as string[]));
  for (let n = 1; ; n++) if (!taken.has(`${name}-${n}`)) return join("runs", `${name}-${n}`);
}

/** The newest run of a recipe. */
export async function newestRun(name: string): Promise<string> {
  const numbers = (await readdir("runs").catch(() => [] as string[])).flatMap((f) =>
    f.startsWith(`${name}-`) ? [Number(f.slice(name.length + 1))] : [],
  );
  const newest = Math.max(...numbers.filter(Number.isInteger));
  if (!Number.isFinite(newest)) throw new Error(`There is no run of ${name} in runs/ to resume. Name one with --out.`);
  return join("runs", `${name}-${newest}`);
}
