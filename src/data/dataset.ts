/** What a dataset is. */
import type { Channels } from "../views.js";

/** Channels in planes, uint8 [C, height, width] (grey, RGB, or RGB and alpha): the layout that augmentation reads, arranged once. */
export interface Image {
  width: number;
  height: number;
  data: Uint8Array;
}

/** C */
export const channelsOf = ({ width, height, data }: Image): number => data.length / (width * height);

export interface Dataset {
  readonly length: number;
  /** Class index of each image; absent where the data has no labels. */
  readonly labels?: Int32Array;
  readonly classes?: readonly string[];
  /** A name for image i in messages: its path below the root. */
  key(i: number): string;
  /** Decodes image i; rejects where the file is broken. */
  image(i: number): Promise<Image>;
  /** What image i is decoded from, its time of change and the decoding in one text; absent where nothing is gained by keeping the result. */
  source?(i: number): Promise<string>;
}

export interface DataOptions {
  /** Folder of the data. */
  root: string;
  /** train (default) or val; data without splits is all train. */
  split: "train" | "val";
  /** Images are shrunk so that their short side has at most this many pixels. */
  shortSide: number;
  /** Channels that images are brought to; default 3. */
  channels?: Channels;
  /** At most this many images, the first ones. */
  limit?: number;
}

/** What `open` finds; undefined for a split that the data does not have. */
export interface DataSource {
  summary: string;
  open(options: DataOptions): Promise<Dataset | undefined>;
}

/** Image i; where it is broken the error names it. */
export const readImage = (d: Dataset, i: number): Promise<Image> =>
  d.image(i).catch((e: Error) => {
    throw new Error(`${d.key(i)} cannot be read: ${e.message.split("\n")[0]}`, { cause: e });
  });

/** Reads every image once, before hours of work that a broken one would end; images at once bound the memory. */
export async function checkReadable(d: Dataset): Promise<void> {
  const together = 16;
  for (let first = 0; first < d.length; first += together)
    await Promise.all(Array.from({ length: Math.min(together, d.length - first) }, (_, k) => readImage(d, first + k)));
}

/** The images of a dataset at the given indices. */
export const subset = (d: Dataset, indices: ArrayLike<number>): Dataset => ({
  ...d,
  length: indices.length,
  labels: d.labels && Int32Array.from(indices, (i) => d.labels![i]!),
  key: (i) => d.key(indices[i]!),
  image: (i) => d.image(indices[i]!),
  source: d.source && ((i) => d.source!(indices[i]!)),
});

/** The first n images of a dataset. */
export const limited = (d: Dataset, n: number | undefined): Dataset =>
  n === undefined || n >= d.length
    ? d
    : subset(
        d,
        Array.from({ length: n }, (_, i) => i),
      );
