/** Label maps of two folders, by name. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { readLabelPng, type LabelMap } from "../src/data/labelPng.js";

/** Each PNG of `truths` with the one of the same name in `predictions`, read as they are asked for. */
export function* labelPairs(
  truths: string,
  predictions: string,
): Generator<{ name: string; truth: LabelMap; prediction: LabelMap }> {
  for (const folder of [truths, predictions]) if (!existsSync(folder)) throw new Error(`${folder} is not there.`);
  const names = readdirSync(truths)
    .filter((f) => f.toLowerCase().endsWith(".png"))
    .sort();
  if (names.length === 0) throw new Error(`${truths} has no label PNGs.`);
  for (const name of names) {
    const file = join(predictions, name);
    if (!existsSync(file)) throw new Error(`${file} is not there: ${join(truths, name)} has no prediction.`);
    yield { name, truth: readLabelPng(join(truths, name)), prediction: readLabelPng(file) };
  }
}
