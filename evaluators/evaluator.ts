/** What a judge is, what it looks at, and how it counts. */
import type { EncoderInfo } from "../graphs/encoder.js";
import type { Dataset } from "../src/data/index.js";
import type { NativeEngine } from "../src/engines/native/index.js";
import type { Choices } from "../src/names.js";
import type { Tensors } from "../src/tensor.js";
import type { Features } from "./features.js";

/** Rows with their classes. */
export interface Labelled {
  features: Features;
  labels: Int32Array;
}

export interface LabelledImages {
  images: Dataset;
  labels: Int32Array;
}

/** Labelled images, and one way of seeing them: an encoder's features, or the pixels. */
export interface Split extends LabelledImages {
  /** Frozen features of all images; computed once. */
  features(): Promise<Features>;
  /** Those of `count` random crops and flips of each image, view by view: [count·N, D]. */
  views(count: number): Promise<Features>;
}

/** A network of ours with its weights. */
export interface Network {
  info: EncoderInfo;
  tensors: Tensors;
}

export interface Subject {
  engine: NativeEngine;
  classes: readonly string[];
  train: Split;
  test?: Split;
  /** The network and its weights, for judges that train it further; only encoders of ours carry it. */
  network?: Network;
  /** A line about what goes on. */
  say(line: string): void;
}

export type Metrics = Record<string, number>;

/** What the command shows of a judge before it begins. */
export interface Judge<Options> {
  summary: string;
  defaults: Options;
  /** The words that an option may be, where it is one of a few. */
  choices?: Choices<Options>;
  /** Options that count something: whole numbers above zero. */
  counts?: readonly (keyof Options)[];
  /** What a start from random weights wants otherwise. */
  fromScratch?: Partial<Options>;
  /** What was done, in words, for the line above the table. */
  protocol(options: Options): string;
}

/** @example await knn.evaluate(subject, { ...knn.defaults, k: [1, 20] }) // { "top1@1": …, "top1@20": … } */
export interface Evaluator<Options> extends Judge<Options> {
  /** features: frozen features, of any encoder or of raw pixels; network: the graph is trained on, so encoders of ours alone. */
  judges: "features" | "network";
  evaluate(subject: Subject, options: Options): Promise<Metrics>;
}

/** What a transfer ends with. */
export interface Transferred {
  metrics: Metrics;
  /** The main metric of each class, by its name; NaN where it does not occur. */
  perClass?: Metrics;
  /** The network with its head, as one ONNX file. */
  model: Uint8Array;
  /** Some test images with what was found in them, PNG. */
  picture(): Promise<Buffer>;
  /** What was found, as the text of a file; of judges that write results. */
  results?(): string;
}

/** Transfer to answers about places, the class of each pixel or boxes: a head on the network, trained with it on data that the judge opens itself. */
export interface DenseEvaluator<Options, Data extends { note: string }> extends Judge<Options> {
  judges: "places";
  /** Writes what it found, for commands that judge such files. */
  writesResults?: boolean;
  /** The data of a folder; `note` says what was found there, for a line above the table. */
  open(root: string, options: Options): Promise<Data>;
  evaluate(
    subject: Pick<Subject, "engine" | "say"> & { network: Network; data: Data },
    options: Options,
  ): Promise<Transferred>;
}

/** top1 and top5 in per cent, and the standard error of top1 in points, √(p(1−p)/n). */
export interface Accuracy {
  top1: number;
  top5: number;
  se: number;
}

/** From `places` of the own class (0 the best) of column `column` among `columns`. */
export function accuracyOf(places: ArrayLike<number>, column = 0, columns = 1): Accuracy {
  const n = places.length / columns;
  let [hit1, hit5] = [0, 0];
  for (let i = column; i < places.length; i += columns) {
    if (places[i]! < 1) hit1++;
    if (places[i]! < 5) hit5++;
  }
  const p = hit1 / n;
  return { top1: 100 * p, top5: (100 * hit5) / n, se: 100 * Math.sqrt((p * (1 - p)) / n) };
}

/** Mean and sample standard deviation. */
export function meanAndDeviation(values: readonly number[]): { mean: number; deviation: number } {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const square = values.reduce((a, b) => a + (b - mean) ** 2, 0);
  return { mean, deviation: values.length > 1 ? Math.sqrt(square / (values.length - 1)) : 0 };
}
