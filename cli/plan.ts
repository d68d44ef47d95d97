/** From arguments and flags to a resolved recipe and a run folder. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";
import { unknownName } from "../src/names.js";
import { recipes, type Listed } from "./recipes/index.js";
import { resolveRecipe, withSettings, type Recipe, type RecipeInput } from "./recipes/schema.js";
import { freshRun, newestRun, recipeIn } from "./folder.js";

export interface PlanFlags {
  data?: string;
  backbone?: string;
  out?: string;
  set: string[];
  epochs?: number;
  "batch-size"?: number;
  size?: number;
  limit?: number;
  seed?: number;
  precision?: string;
  resume: boolean;
  "dry-run"?: boolean;
}

export interface Plan {
  name: string;
  recipe: Recipe;
  out: string;
  /** Lines about it. */
  notes: string[];
}

/** A recipe by name, or from a JSON file (a run's recipe.json too). */
export async function recipeNamed(name: string): Promise<{ name: string; input: RecipeInput }> {
  if (!name.endsWith(".json")) {
    const listed = (recipes as Record<string, Listed>)[name];
    if (!listed) throw new Error(unknownName("recipe", name, Object.keys(recipes)));
    return { name, input: listed.recipe };
  }
  try {
    const { recipe, ...input } = JSON.parse(await readFile(name, "utf8")) as RecipeInput & { recipe?: string };
    return { name: recipe ?? name.replace(/^.*[\\/]|\.json$/g, ""), input };
  } catch (error) {
    throw new Error(`Recipe ${name} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

/** The recipe with the flags laid over it. */
function flagged(input: RecipeInput, flags: PlanFlags): RecipeInput {
  const out = withSettings(input, flags.set);
  if (flags.data !== undefined) out.data.root = flags.data;
  if (flags.data !== undefined && out.data.name === undefined) out.data.name = "imageFolder";
  if (flags.backbone !== undefined) out.backbone = backboneNamed(flags.backbone) as RecipeInput["backbone"];
  if (flags.size !== undefined) out.data.size = flags.size;
  if (flags.limit !== undefined) out.data.limit = flags.limit;
  if (flags.epochs !== undefined) out.epochs = flags.epochs;
  if (flags["batch-size"] !== undefined) out.batchSize = flags["batch-size"];
  if (flags.seed !== undefined) out.seed = flags.seed;
  if (flags.precision !== undefined) out.precision = flags.precision as RecipeInput["precision"];
  return out;
}

/** A backbone by name, or an ONNX file that is one. */
const backboneNamed = (text: string): { name: string; file?: string } =>
  text.endsWith(".onnx") ? { name: "onnx", file: text } : { name: text };

/** The recipe with the bytes of its backbone's ONNX file, where it has one; they stay out of everything that is written as JSON. */
export async function withBackboneFile(recipe: Recipe): Promise<Recipe> {
  if (recipe.backbone.name !== "onnx") return recipe;
  const file = String(recipe.backbone.file);
  const bytes = await readFile(file).catch((e: Error) => {
    throw new Error(`Backbone ${file || "onnx, of which no file is named,"} cannot be read: ${e.message}`, {
      cause: e,
    });
  });
  const model = Object.assign(new Uint8Array(bytes), { toJSON: () => undefined });
  return { ...recipe, backbone: { ...recipe.backbone, model } };
}

/** What a command line asks for. */
export async function planned(argument: string | undefined, flags: PlanFlags): Promise<Plan> {
  const plan = await (flags.resume ? resumed(argument, flags) : begun(argument, flags));
  return { ...plan, recipe: await withBackboneFile(plan.recipe) };
}

async function begun(argument: string | undefined, flags: PlanFlags): Promise<Plan> {
  const { name, input } = await recipeNamed(argument ?? "photos");
  const recipe = resolveRecipe(flagged(input, flags));
  if (recipe.data.name === "imageFolder" && !recipe.data.root && !flags["dry-run"])
    throw new Error(`Recipe ${name} needs a folder of images: --data DIR.`);
  const out = flags.out ?? (await freshRun(name));
  if (existsSync(`${out}/recipe.json`)) {
    const there = await recipeIn(out);
    const same = there.name === name && isDeepStrictEqual(there.recipe, recipe);
    throw new Error(
      `${out} holds a run of ${there.name}${same ? "" : " with other settings"}. Continue it with --resume, or choose another --out.`,
    );
  }
  return { name, recipe, out, notes: [] };
}

/** A run goes on with the recipe in its folder; flags that would change it are refused. */
async function resumed(argument: string | undefined, flags: PlanFlags): Promise<Plan> {
  const out = flags.out ?? (await newestRun(argument ?? "photos"));
  const { name, recipe, added } = await recipeIn(out);
  if (argument !== undefined && argument !== name)
    throw new Error(`${out} belongs to recipe ${name}, not ${argument}.`);
  const asked = resolveRecipe(flagged(structuredClone(recipe) as never, flags));
  if (!isDeepStrictEqual(JSON.parse(JSON.stringify(asked)), JSON.parse(JSON.stringify(recipe))))
    throw new Error(
      `${out} cannot be resumed with other settings than its own. Leave the flags out, or begin a new run.`,
    );
  const notes = added.length
    ? [`${out} was begun before there was ${added.join(", ")}: it goes on with the default.`]
    : [];
  return { name, recipe, out, notes };
}
