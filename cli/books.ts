/** What a run wrote down, line by line: metrics.jsonl. */
import { createRequire } from "node:module";
import { readFile, truncate } from "node:fs/promises";
import type { CollapsePanel } from "../evaluators/collapse.js";
import type { NativeEngine } from "../src/engines/native/index.js";

/** A kNN score in per cent with its standard error. */
export interface Top1 {
  top1: number;
  se: number;
}

/** One row of the kNN table. */
export interface Score {
  epoch: number;
  knn?: Top1;
  panel: CollapsePanel;
}

/** A process that trained the run, from a step on. */
export interface Life {
  start: number;
  engine: string;
  threads: number;
  /** Versions of diptych, ONNX Runtime and Node. */
  versions: Record<string, string>;
  /** kNN on the pixels themselves. */
  pixels?: Top1;
}

export interface Books {
  lives: Life[];
  /** Everything that each step reported: step, epoch, loss, lr, … */
  steps: (Record<string, number> & { step: number })[];
  scores: Score[];
}

/** This process, as its run's books have it. */
export function lifeOf(engine: NativeEngine, start: number, pixels?: Top1): Life {
  const { version } = createRequire(import.meta.url)("../../package.json") as { version: string };
  const versions = { diptych: version, "ONNX Runtime": engine.version, Node: process.versions.node };
  return { start, engine: engine.name, threads: engine.threads, versions, pixels };
}

interface Row {
  life?: Life;
  step?: number;
  epoch: number;
  knn?: Top1;
}

/** The lines up to `step`, and how many bytes they are; a torn last line ends them. */
async function kept(file: string, step: number): Promise<Books & { bytes: number }> {
  const books: Books & { bytes: number } = { lives: [], steps: [], scores: [], bytes: 0 };
  const text = await readFile(file, "utf8").catch(() => "");
  for (const line of text.split("\n")) {
    let row: Row;
    try {
      row = JSON.parse(line) as Row;
    } catch {
      break;
    }
    if (row.life) books.lives.push(row.life);
    else if (row.step === undefined)
      books.scores.push({ epoch: row.epoch, knn: row.knn, panel: row as unknown as CollapsePanel });
    else if (row.step > step) break;
    else books.steps.push(row as unknown as Books["steps"][number]);
    books.bytes += Buffer.byteLength(line) + 1;
  }
  return books;
}

/** The books of a run. */
export const readBooks = (file: string): Promise<Books> => kept(file, Infinity);

/** Cuts the books off after `step`, where a run goes on; after step 0 nothing stays. */
export async function reopenBooks(file: string, step: number): Promise<Books> {
  if (step === 0) {
    await truncate(file, 0).catch(() => undefined);
    return { lives: [], steps: [], scores: [] };
  }
  const { bytes, ...books } = await kept(file, step);
  await truncate(file, bytes);
  return books;
}
