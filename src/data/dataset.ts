/** What a dataset is. */

/** RGB in planes, uint8 [3, height, width]: the layout that augmentation reads, arranged once. */
export interface Image {
  width: number;
  height: number;
  data: Uint8Array;
}

export interface Dataset {
  readonly length: number;
  /** Class index of each image; absent where the data has no labels. */
  readonly labels?: Int32Array;
  readonly classes?: readonly string[];
  /** A name for image i in messages: its path below the root. */
  key(i: number): string;
  /** Decodes image i; rejects where the file is broken. */
  image(i: number): Promise<Image>;
}

export interface DataOptions {
  /** Folder of the data. */
  root: string;
  /** train (default) or val; data without splits is all train. */
  split: "train" | "val";
  /** Images are shrunk so that their short side has at most this many pixels. */
  shortSide: number;
  /** At most this many images, the first ones. */
  limit?: number;
}

/** What `open` finds; undefined for a split that the data does not have. */
export interface DataSource {
  summary: string;
  open(options: DataOptions): Promise<Dataset | undefined>;
}

/** The first n images of a dataset. */
export function limited(d: Dataset, n: number | undefined): Dataset {
  if (n === undefined || n >= d.length) return d;
  return { ...d, length: n, labels: d.labels?.slice(0, n), key: (i) => d.key(i), image: (i) => d.image(i) };
}
