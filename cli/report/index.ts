/** Reports of runs, from what lies in their folders. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { preprocessingOf } from "../../evaluators/features.js";
import { limited, type Dataset } from "../../src/data/index.js";
import type { Engine } from "../../src/engines/index.js";
import { readBooks } from "../books.js";
import { openData, readableOnly, recipeIn, writeAtomically } from "../folder.js";
import { report, type Run } from "./page.js";
import { noPictures, pictures, searched } from "./pictures.js";

export { compared, comparedColumns, comparison } from "./page.js";

/** A run as its folder has it. */
export async function runIn(folder: string): Promise<Run> {
  const { name, recipe } = await recipeIn(folder);
  return { name, recipe, books: await readBooks(join(folder, "metrics.jsonl")) };
}

/** Writes report.html into a run's folder, with pictures where there are an encoder and data; returns its path. */
export async function writeReport(
  folder: string,
  run: Run,
  engine: Engine,
  data: Dataset | undefined,
): Promise<string> {
  const file = join(folder, "report.html");
  const encoder = await readFile(join(folder, "encoder.onnx")).catch(() => undefined);
  const seen = encoder && data ? await pictures(engine, encoder, preprocessingOf(encoder), data) : noPictures;
  await writeAtomically(file, report(run, seen));
  return file;
}

/** What its neighbours are searched in. */
const searchable = async ({ recipe }: Run, say: (line: string) => void): Promise<Dataset> =>
  readableOnly(limited((await openData(recipe, "train"))!, searched), say);

/** The report of a run made anew. Where its data is gone, without pictures, and with a word about it. */
export async function reportAgain(folder: string, engine: Engine, say: (line: string) => void): Promise<string> {
  const run = await runIn(folder);
  const data = await searchable(run, say).catch((error: Error) => {
    say(`${error.message} The report has no pictures.`);
    return undefined;
  });
  return writeReport(folder, run, engine, data);
}
