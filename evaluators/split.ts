/** Parts of a labelled set, drawn class by class: the same seed gives the same part. */
import { random } from "../src/random.js";
import { subset } from "../src/data/dataset.js";
import type { Labelled, LabelledImages, Subject } from "./evaluator.js";
import type { Features } from "./features.js";

/** Indices of about `share` of each class (at least one of every class that has two or more), and the rest; both ascending. */
export function dividedByClass(
  labels: Int32Array,
  count: (ofClass: number) => number,
  seed: number,
  purpose: string,
): { part: Int32Array; rest: Int32Array } {
  const members = new Map<number, number[]>();
  labels.forEach((c, i) => members.set(c, [...(members.get(c) ?? []), i]));
  const taken = new Uint8Array(labels.length);
  for (const [c, own] of members) {
    const order = random(seed, purpose, c).permutation(own.length);
    for (const j of order.subarray(0, count(own.length))) taken[own[j]!] = 1;
  }
  const where = (wanted: number) => Int32Array.from(labels.keys()).filter((i) => taken[i] === wanted);
  return { part: where(1), rest: where(0) };
}

/** count for dividedByClass: a share, rounded, and never none of two or more. */
export const shareOf =
  (share: number) =>
  (n: number): number =>
    n < 2 ? 0 : Math.max(1, Math.round(share * n));

/** The rows at the indices. */
export function rowsAt({ features: { data, width }, labels }: Labelled, indices: Int32Array): Labelled {
  const out = new Float32Array(indices.length * width);
  indices.forEach((from, to) => out.set(data.subarray(from * width, (from + 1) * width), to * width));
  const features: Features = { data: out, length: indices.length, width };
  return { features, labels: Int32Array.from(indices, (i) => labels[i]!) };
}

/** The images at the indices. */
export const imagesAt = ({ images, labels }: LabelledImages, indices: Int32Array): LabelledImages => ({
  images: subset(images, indices),
  labels: Int32Array.from(indices, (i) => labels[i]!),
});

/** Where the data has no test split: the share of every class that stands in for it. */
export const testShare = 0.2;

/** Training and test rows. Without a test split a fifth of every class is held out as one. */
export async function trainAndTest(subject: Subject, seed: number): Promise<{ train: Labelled; test: Labelled }> {
  const { train, test } = await splitRows(subject, seed);
  return { train, test };
}

/** The same, with the images that are trained on. */
async function splitRows(subject: Subject, seed: number) {
  const rows = async (s: Subject["train"]): Promise<Labelled> => ({ features: await s.features(), labels: s.labels });
  const all = await rows(subject.train);
  if (subject.test) return { train: all, test: await rows(subject.test), trained: Int32Array.from(all.labels.keys()) };
  const { part, rest } = dividedByClass(all.labels, shareOf(testShare), seed, "test");
  return { train: rowsAt(all, rest), test: rowsAt(all, part), trained: rest };
}

/** And `shown`: the rows of `views` random crops and flips of each training image, view by view; of one view, the training rows. */
export async function trainTestAndShown(subject: Subject, seed: number, views: number) {
  const { train, test, trained } = await splitRows(subject, seed);
  if (views === 1) return { train, test, shown: train };
  const { labels } = subject.train;
  const every = { features: await subject.train.views(views), labels: repeated(labels, views) };
  return { train, test, shown: rowsAt(every, inEveryView(trained, labels.length, views)) };
}

/** Indices of n rows as those of the same rows in each of several views. */
export const inEveryView = (indices: Int32Array, n: number, views: number): Int32Array =>
  Int32Array.from({ length: views * indices.length }, (_, i) => {
    const view = Math.floor(i / indices.length);
    return view * n + indices[i % indices.length]!;
  });

const repeated = (labels: Int32Array, times: number): Int32Array =>
  Int32Array.from({ length: times * labels.length }, (_, i) => labels[i % labels.length]!);
