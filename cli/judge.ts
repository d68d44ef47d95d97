/** Evaluate: an encoder file and a folder in, numbers out. */
import { readFile } from "node:fs/promises";
import {
  extractFeatures,
  imageBatches,
  pixelFeatures,
  preprocessingOf,
  type Features,
} from "../evaluators/features.js";
import { knn } from "../evaluators/knn.js";
import { cifarFolder } from "../src/data/cifar10.js";
import { datasets } from "../src/data/index.js";
import type { Engine } from "../src/engines/index.js";
import { imagenetStatistics } from "../src/views.js";

export interface JudgeFlags {
  data: string;
  k: number;
  temperature: string;
  size?: number;
  mean?: string;
  std?: string;
}

const triple = (flag: string, text: string): number[] => {
  const values = text.split(",").map(Number);
  if (values.length !== 3 || values.some((v) => !Number.isFinite(v)))
    throw new Error(`Expected three numbers for --${flag}, as 0.5,0.5,0.5, but received ${text}.`);
  return values;
};

async function encoderAt(path: string): Promise<Uint8Array> {
  return readFile(path).catch((e: Error) => {
    throw new Error(`Encoder ${path} cannot be read: ${e.message}`, { cause: e });
  });
}

const preprocessing = (encoder: Uint8Array, { size, mean, std }: Pick<JudgeFlags, "size" | "mean" | "std">) =>
  preprocessingOf(encoder, {
    size,
    ...(mean && std && { normalize: { mean: triple("mean", mean), std: triple("std", std) } }),
  });

const open = (root: string, split: "train" | "val") =>
  (root === "cifar10" ? datasets.cifar10 : datasets.imageFolder).open({
    root: root === "cifar10" ? cifarFolder() : root,
    split,
    shortSide: 256,
  });

/** kNN of an encoder's features, and of raw pixels beside it. */
export async function judgeKnn(engine: Engine, encoderFile: string, flags: JudgeFlags) {
  const encoder = await encoderAt(encoderFile);
  const p = preprocessing(encoder, flags);
  const [train, val] = await Promise.all([open(flags.data, "train"), open(flags.data, "val")]);
  if (!train?.labels || !train.classes)
    throw new Error(`${flags.data} has no labels: nearest neighbours need a folder for each class.`);
  const options = { k: flags.k, temperature: Number(flags.temperature) };
  const score = async (features: (d: NonNullable<typeof train>) => Promise<Features>) => {
    const bank = { features: await features(train), labels: train.labels! };
    const queries = val?.labels && { features: await features(val), labels: val.labels };
    return knn(engine, bank, queries || undefined, train.classes!.length, options);
  };
  const result = await score((d) => extractFeatures(engine, encoder, imageBatches(engine, d, p), d.length));
  const { mean, std } = imagenetStatistics;
  const pixels = await score((d) =>
    pixelFeatures(imageBatches(engine, d, { size: p.size, resize: p.resize }), d.length, mean, std),
  );
  return {
    ...result,
    pixelsTop1: pixels.top1,
    images: train.length + (val?.length ?? 0),
    classes: train.classes.length,
    protocol: val ? "train as bank, val as queries" : "leave-one-out",
  };
}
