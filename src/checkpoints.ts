/** Checkpoints of a run: written aside, fsynced, renamed; the same files from either engine. */
import { open, mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { divided } from "./artifacts/index.js";
import type { Manifest } from "./artifacts/manifest.js";
import { readCheckpoint, writeCheckpoint } from "./artifacts/odtc.js";
import { readSafetensors, writeSafetensors } from "./artifacts/safetensors.js";
import { partsOf } from "./step.js";
import type { Tensors } from "./tensor.js";

/** Where a run stands: the next batch to train on, and the next step on it. */
export interface Progress {
  step: number;
  epoch: number;
  batch: number;
  inner: number;
  /** Indices of files that could not be read, so that a resumed run replaces the same ones. */
  broken: number[];
  /** Another count of threads sums in another order. */
  threads: number;
}

const stepFolder = (step: number): string => `step-${step}`;
const stepOf = (name: string): number => Number(/^step-(\d+)$/.exec(name)?.[1] ?? NaN);

/** Why a write failed, in words. */
export const whyUnwritten = (error: unknown): string =>
  (error as NodeJS.ErrnoException).code === "ENOSPC" ? "the disk is full" : (error as Error).message;

async function writeDurably(file: string, bytes: Uint8Array | string): Promise<void> {
  const handle = await open(file, "w");
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Steps of the checkpoints in a folder, oldest first. */
export async function checkpointSteps(folder: string): Promise<number[]> {
  const names = await readdir(folder).catch(() => [] as string[]);
  return names
    .map(stepOf)
    .filter(Number.isFinite)
    .sort((a, b) => a - b);
}

/** Writes step-N below `folder` and removes all but the newest `keep`; a failure leaves the older ones as they were. */
export async function saveCheckpoint(
  folder: string,
  manifest: Manifest,
  tensors: Tensors,
  progress: Progress,
  keep: number,
): Promise<string> {
  const target = join(folder, stepFolder(progress.step));
  const aside = join(folder, `.writing-${progress.step}-${process.pid}`);
  try {
    await mkdir(aside, { recursive: true });
    const { trainable, frozen, state } = divided(manifest, tensors);
    await writeDurably(join(aside, "checkpoint"), writeCheckpoint({ trainable, frozen }));
    await writeDurably(join(aside, "state.safetensors"), writeSafetensors({ ...state, step: tensors.step! }));
    await writeDurably(join(aside, "progress.json"), JSON.stringify(progress) + "\n");
    await rm(target, { recursive: true, force: true });
    await rename(aside, target);
  } catch (error) {
    await rm(aside, { recursive: true, force: true }).catch(() => undefined);
    throw new Error(
      `Checkpoint ${target} could not be written: ${whyUnwritten(error)}. Earlier checkpoints are untouched.`,
      {
        cause: error,
      },
    );
  }
  await Promise.all((await abandoned(folder)).map((f) => rm(f, { recursive: true, force: true })));
  const steps = await checkpointSteps(folder);
  await Promise.all(
    steps.slice(0, -keep).map((s) => rm(join(folder, stepFolder(s)), { recursive: true, force: true })),
  );
  return target;
}

/** What a killed process was writing. */
const abandoned = async (folder: string): Promise<string[]> =>
  (await readdir(folder)).filter((f) => f.startsWith(".writing-")).map((f) => join(folder, f));

/** Reads a checkpoint; a truncated file is an error that names it. */
export async function loadCheckpoint(folder: string, step: number): Promise<{ tensors: Tensors; progress: Progress }> {
  const at = join(folder, stepFolder(step));
  const read = async <T>(file: string, parse: (bytes: Buffer) => T): Promise<T> => {
    try {
      return parse(await readFile(join(at, file)));
    } catch (error) {
      throw new Error(`${join(at, file)} cannot be used: ${(error as Error).message}`, { cause: error });
    }
  };
  const { trainable, frozen } = await read("checkpoint", readCheckpoint);
  const { tensors } = await read("state.safetensors", readSafetensors);
  const progress = await read("progress.json", (bytes) => JSON.parse(bytes.toString()) as Progress);
  return { tensors: { ...trainable, ...frozen, ...tensors }, progress };
}

/** Refuses tensors of another network or method than the step's: `what` says whose they are. */
export function checkFits(manifest: Manifest, tensors: Tensors, what: string): void {
  const wanted = [...manifest.parameters, ...manifest.state.flatMap(partsOf)].map((t) => t.name);
  const missing = wanted.filter((name) => !(name in tensors));
  const known = new Set([...wanted, "step"]);
  const strange = Object.keys(tensors).filter((name) => !known.has(name));
  if (!missing.length && !strange.length) return;
  const told = [
    missing.length && `it lacks ${missing.length} tensors ("${missing[0]}" …)`,
    strange.length && `it has ${strange.length} that are not in the step ("${strange[0]}" …)`,
  ].filter(Boolean);
  throw new Error(
    `${what} is of another method or network: ${told.join(", ")}. Continue it with its own recipe, or start from its weights with --init.`,
  );
}

/** The newest checkpoint that can be read, with a word about those that cannot. */
export async function newestCheckpoint(folder: string, warn: (sentence: string) => void) {
  const steps = await checkpointSteps(folder);
  for (const step of steps.toReversed())
    try {
      return await loadCheckpoint(folder, step);
    } catch (error) {
      warn((error as Error).message);
    }
  return undefined;
}
