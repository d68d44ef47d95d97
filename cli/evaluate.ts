/** diptych evaluate: an encoder file and a folder in; a table with the rows that a score needs beside it out. */
import { createHash } from "node:crypto";
import { augmentedViews, featuresOf, type Bag } from "../evaluators/bag.js";
import type { DenseEvaluator, Evaluator, LabelledImages, Metrics, Split, Subject } from "../evaluators/evaluator.js";
import { cachedFeatures } from "../evaluators/featureCache.js";
import {
  extractFeatures,
  imageBatches,
  pixelFeatures,
  type Features,
  type Preprocessing,
} from "../evaluators/features.js";
import { evaluators } from "../evaluators/index.js";
import { testShare } from "../evaluators/split.js";
import { encoderModel, initialWeights, networkIn, type EncoderInfo } from "../graphs/encoder.js";
import type { Dataset } from "../src/data/index.js";
import type { NativeEngine } from "../src/engines/native/index.js";
import { oneOf } from "../src/names.js";
import { readModel } from "../src/onnx/model.js";
import { imagenetStatistics, statisticsOf, type Channels } from "../src/views.js";
import { encoderAt, ownNetwork, readable } from "./inference/source.js";
import { transferred } from "./transfer.js";

export interface EvaluateFlags {
  data: string;
  scratch: boolean;
  /** Where a judge of places leaves what it trained, and a picture of its answers. */
  out?: string;
  picture?: string;
  /** Where it writes what it found, for coco-eval or voc-eval. */
  results?: string;
  /** Patches of each image whose features are averaged, and the share of its area that each covers. */
  patches: number;
  "patch-scale": number;
  cache: boolean;
  size?: number;
  resize?: number;
  mean?: string;
  std?: string;
  say(line: string): void;
}

export interface Row {
  name: string;
  /** Prefix of this row's metrics in --json. */
  key: string;
  metrics: Metrics;
  /** The main metric by class. */
  perClass?: Metrics;
}

export interface Verdict {
  notes: string[];
  rows: Row[];
}

type AnyEvaluator = Evaluator<object> | DenseEvaluator<object, { note: string }>;
export const evaluatorNamed = (name: string): AnyEvaluator => oneOf<unknown>("judge", name, evaluators) as AnyEvaluator;

/** The score of an encoder, with rows for random weights, raw pixels and (asked for) training from scratch. */
export async function judged(
  engine: NativeEngine,
  evaluator: AnyEvaluator,
  options: object,
  encoderFile: string,
  flags: EvaluateFlags,
): Promise<Verdict> {
  if (flags.patches > 1 && evaluator.judges !== "features")
    throw new Error("--patches averages features; this judge trains the network on whole images. Leave it out.");
  if (flags.patches > 1 && ((options as { views?: number }).views ?? 1) > 1)
    throw new Error(
      "--patches judges means over patches, --set views trains on single crops: the head would be tested on other features than it learned. Leave one of them out.",
    );
  if (evaluator.judges === "places") return transferred(engine, evaluator, options, encoderFile, flags);
  for (const flag of ["out", "picture", "results"] as const)
    if (flags[flag]) throw new Error(`--${flag} keeps what a judge of places found; this judge gives numbers alone.`);
  const { bytes: encoder, preprocessing: p } = await encoderAt(encoderFile, flags);
  const bag: Bag = { patches: flags.patches, scale: flags["patch-scale"] };
  const { train, test, classes } = await labelledData(flags, p.channels);
  const seen = (bytes: Uint8Array, q: Preprocessing): Subject => {
    const of = ({ images, labels }: LabelledImages): Split => ({
      images,
      labels,
      features: once(() =>
        cachedFeatures(flags.cache ? [bytes, JSON.stringify({ ...q, ...bag })] : undefined, images, () =>
          featuresOf(engine, bytes, images, q, bag),
        ),
      ),
      views: (count) =>
        cachedFeatures(flags.cache ? [bytes, JSON.stringify({ ...q, views: count })] : undefined, images, () => {
          const { all, place } = augmentedViews(images, count, q.size);
          return extractFeatures(engine, bytes, imageBatches(engine, all, q, 64, place), all.length);
        }),
    });
    return { engine, classes, train: of(train), test: test && of(test), network: networkIn(bytes), say: flags.say };
  };
  const own = seen(encoder, p);
  const random = own.network && seen(randomEncoder(own.network.info), p);
  const side = Math.min(p.size, thumbnailSide);
  const thumbnail: Preprocessing = { size: side, resize: side, channels: p.channels };
  const pixels = pixelSubject(engine, own, thumbnail, flags.cache);

  const rows: Row[] = [];
  const add = async (name: string, key: string, judge: Evaluator<object>, subject: Subject, with_: object) =>
    rows.push({ name, key, metrics: await judge.evaluate(subject, with_) });
  if (evaluator.judges === "network") ownNetwork(encoderFile, encoder);
  await add(evaluator.judges === "network" ? "trained on" : "features", "", evaluator, own, options);
  if (random)
    await add(evaluator.judges === "network" ? "from scratch" : "random weights", "random", evaluator, random, {
      ...options,
      ...evaluator.fromScratch,
    });
  if (evaluator.judges === "features") await add("raw pixels", "pixels", evaluator, pixels, options);
  if (flags.scratch && evaluator.judges === "features") {
    if (!random) throw new Error("--scratch trains a network of ours from random weights; a foreign encoder has none.");
    const { finetune } = evaluators;
    await add("supervised", "supervised", finetune as never, random, { ...finetune.defaults, ...finetune.fromScratch });
  }
  return { notes: [...(await notesOf(own, pixels, encoder, p, bag, thumbnail)), evaluator.protocol(options)], rows };
}

/** Raw pixels are compared at most at this size: 3,072 numbers an image. */
const thumbnailSide = 32;

/** Training and test images with labels over the same classes. */
async function labelledData({ data: root, cache, say }: EvaluateFlags, channels: Channels) {
  const split = (name: "train" | "val") => readable(root, name, { channels, cache, say });
  const [train, val] = [await split("train"), await split("val")];
  const { classes } = train!;
  if (!train!.labels || !classes)
    throw new Error(`${root} has no labels to judge by: it needs a folder for each of two or more classes.`);
  const labelled = (images: Dataset): LabelledImages => {
    if (!images.labels || !images.classes)
      throw new Error(`The test split of ${root} has no labels: it needs a folder for each of two or more classes.`);
    const index = images.classes.map((name) => classes.indexOf(name));
    const unknown = images.classes.find((_, i) => index[i]! < 0);
    if (unknown !== undefined)
      throw new Error(`Class "${unknown}" of the test split of ${root} is not among those of train.`);
    return { images, labels: images.labels.map((c) => index[c]!) };
  };
  return { train: labelled(train!), test: val && labelled(val), classes };
}

const randomEncoder = (info: EncoderInfo): Uint8Array => encoderModel(info, initialWeights(info, 0));

/** Channels are centred and scaled by ImageNet's statistics. */
function pixelSubject(engine: NativeEngine, like: Subject, p: Preprocessing, cache: boolean): Subject {
  const { mean, std } = statisticsOf(imagenetStatistics, p.channels);
  const of = ({ images, labels }: Split): Split => ({
    images,
    labels,
    features: once(() =>
      cachedFeatures(cache ? ["pixels", JSON.stringify(p)] : undefined, images, () =>
        pixelFeatures(imageBatches(engine, images, p), images.length, mean, std),
      ),
    ),
    views: (count) => {
      const { all, place } = augmentedViews(images, count, p.size);
      return pixelFeatures(imageBatches(engine, all, p, 64, place), all.length, mean, std);
    },
  });
  return { ...like, train: of(like.train), test: like.test && of(like.test), network: undefined };
}

/** A promise made at its first use. */
function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => (made ??= make());
}

async function notesOf(
  { train, test, classes, network }: Subject,
  pixels: Subject,
  encoder: Uint8Array,
  p: Preprocessing,
  bag: Bag,
  thumbnail: Preprocessing,
): Promise<string[]> {
  const { outputs, metadata } = readModel(encoder);
  const output = outputs.find((o) => o.name === "features") ?? outputs[0]!;
  const split = test
    ? `${train.images.length} training and ${test.images.length} test images`
    : `${train.images.length} images without a test split (knn leaves each out of its own vote, the others hold out ${100 * testShare} % of every class)`;
  const normalized = metadata.diptych
    ? "inside the encoder"
    : p.normalize
      ? `by mean ${p.normalize.mean.join(" ")}, std ${p.normalize.std.join(" ")}`
      : "not at all";
  const shown =
    bag.patches > 1
      ? `mean over ${bag.patches} patches of ${bag.scale} of the area at ${p.size} px`
      : `short side ${p.resize}, centre crop ${p.size}`;
  const twins = duplicates(await pixels.train.features(), await pixels.test?.features());
  return [
    `${split}, ${classes.length} classes`,
    `output "${output.name}"${output.shape.length > 2 ? ", averaged over its cells" : ""}; BatchNorm in evaluation mode; ${shown}, normalised ${normalized}; raw pixels at ${thumbnail.size} px`,
    ...(network ? [] : ["No row of random weights: the encoder does not say how it is initialised."]),
    ...(twins
      ? [
          `Warning: ${twins} ${test ? "test images look the same as a training image" : "images look the same as another one"} at ${thumbnail.size} px. Their answers are given away.`,
        ]
      : []),
  ];
}

/** Rows of the queries that occur in the bank; without queries, rows of the bank that occur there more than once. */
function duplicates(bank: Features, queries: Features | undefined): number {
  const hashes = ({ data, length, width }: Features): string[] =>
    Array.from({ length }, (_, i) => {
      const row = data.subarray(i * width, (i + 1) * width);
      return createHash("sha1")
        .update(new Uint8Array(row.buffer, row.byteOffset, row.byteLength))
        .digest("base64");
    });
  const known = hashes(bank);
  if (!queries) {
    const counts = new Map<string, number>();
    for (const h of known) counts.set(h, (counts.get(h) ?? 0) + 1);
    return known.filter((h) => counts.get(h)! > 1).length;
  }
  const set = new Set(known);
  return hashes(queries).filter((h) => set.has(h)).length;
}

/** The main metric of each class, a column for each row; nothing where there is none. */
export const byClass = (rows: readonly Row[]): Row[] =>
  Object.keys(rows[0]!.perClass ?? {}).map((name) => ({
    name,
    key: name,
    metrics: Object.fromEntries(rows.map((r) => [r.name, r.perClass?.[name] ?? NaN])),
  }));

/** Rows under the metrics they have in common order, numbers to two places. */
export function table(rows: readonly Row[]): string {
  const metrics = [...new Set(rows.flatMap((r) => Object.keys(r.metrics)))];
  const shown = (v: number | undefined): string =>
    v === undefined || Number.isNaN(v) ? "–" : Math.abs(v) < 0.1 && v !== 0 ? v.toPrecision(2) : v.toFixed(2);
  const cells = [["", ...metrics], ...rows.map((r) => [r.name, ...metrics.map((m) => shown(r.metrics[m]))])];
  const widths = cells[0]!.map((_, i) => Math.max(...cells.map((c) => c[i]!.length)));
  return cells
    .map((c) =>
      c
        .map((text, i) => (i ? text.padStart(widths[i]!) : text.padEnd(widths[i]!)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
