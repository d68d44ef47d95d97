/** What an evaluation holds: one column a property, one row an object, in the order of the file. */
import { constants } from "node:buffer";
import { areaOf, boundsOf, compress, expand } from "./rle.js";

/** What is compared. */
export const iouTypes = ["bbox", "segm", "keypoints"] as const;
export type IouType = (typeof iouTypes)[number];

/** Annotations or detections, n of them. */
export interface Objects {
  length: number;
  /** [n] index into the ground truth's images, −1 where it has no such image. */
  image: Int32Array;
  /** [n] index into the ground truth's categories, −1 where it has no such category. */
  category: Int32Array;
  /** [n] pixels, which decide between small, medium and large. */
  area: Float64Array;
  /** [n, 4] x, y, w, h: for bbox, and of ground truth for keypoints. */
  boxes?: Float64Array;
  /** For segm. */
  masks?: Masks;
  /** [n, 3K] x, y, visibility: for keypoints. */
  keypoints?: Float64Array;
}

export interface GroundTruth extends Objects {
  /** Ascending. */
  images: { id: Float64Array; height: Float64Array; width: Float64Array };
  /** Ascending by id. */
  categories: { id: number; name: string }[];
  /** [n] */
  id: Float64Array;
  /** [n] 1 where any number of detections may match a part. */
  crowd: Uint8Array;
  /** [n] labelled keypoints: those without any are ignored. */
  labelled?: Float64Array;
}

export interface Detections extends Objects {
  /** [n] */
  score: Float64Array;
}

/** Numbers, as many as come. */
export class Numbers {
  constructor(public data: Float64Array = new Float64Array(1 << 16)) {}
  set(i: number, value: number): void {
    if (i >= this.data.length) this.reserve(i + 1);
    this.data[i] = value;
  }
  reserve(n: number): void {
    if (n <= this.data.length) return;
    const larger = new Float64Array(Math.max(n, 2 * this.data.length));
    larger.set(this.data);
    this.data = larger;
  }
}

/** Masks of one row each: polygons, or run lengths as compressed text. */
export class Masks {
  height = new Numbers();
  width = new Numbers();
  /** Of polygons, the parts [first, end); of run lengths, −1 − the bytes [first, end) of `text`. */
  first = new Numbers();
  end = new Numbers();
  /** Polygons' vertices x, y, …; part p ends before points[partEnd[p]]. */
  points = new Numbers();
  partEnd = new Numbers();
  parts = 0;
  text: Uint8Array;
  used = 0;
  /** [n, 4] left, top, right, bottom: no pixel of the mask lies outside. */
  reach = new Numbers();
  /** Pixels of run lengths; NaN for polygons, whose pixels only a drawing tells. */
  pixels = new Numbers();
  private counts = new Uint32Array(1 << 12);
  private box = new Float64Array(4);

  /** Room for so many bytes of text, or as many as an array has; only those that are written take memory. */
  constructor(bytes: number) {
    this.text = new Uint8Array(Math.min(bytes, constants.MAX_LENGTH));
  }

  isPolygon = (i: number): boolean => this.first.data[i]! >= 0;
  textOf = (i: number): [from: number, to: number] => [-1 - this.first.data[i]!, -1 - this.end.data[i]!];

  /** Makes row i the run lengths that were written to text[used, used + length); returns their area and box, and the pixels they cover. */
  setRuns(
    i: number,
    length: number,
    height: number,
    width: number,
  ): { covered: number; area: number; box: Float64Array } {
    if (this.used + length > this.text.length)
      throw new Error(
        `Mask ${i}: run lengths of all masks have more than the ${this.text.length} bytes that one array holds.`,
      );
    if (this.counts.length < length) this.counts = new Uint32Array(2 * length);
    const n = expand(this.text, this.used, this.used + length, this.counts, 0);
    let covered = 0;
    for (let j = 0; j < n; j++) covered += this.counts[j]!;
    boundsOf(this.counts, 0, n, height, width, this.box, 0);
    this.height.set(i, height);
    this.width.set(i, width);
    this.first.set(i, -1 - this.used);
    this.used += length;
    this.end.set(i, -1 - this.used);
    const { box } = this;
    this.setReach(i, box[0]!, box[1]!, box[0]! + box[2]!, box[1]! + box[3]!);
    const area = areaOf(this.counts, 0, n);
    this.pixels.set(i, area);
    return { covered, area, box };
  }
  /** Writes run lengths given as numbers behind the last ones and returns the bytes of their text. */
  writeCounts(counts: ArrayLike<number>, n: number): number {
    return compress(counts, 0, n, this.text, this.used);
  }

  /** Makes row i the polygons whose parts were written behind the last ones; they are drawn on their image's pixels. */
  setPolygons(i: number, parts: number): void {
    const first = this.parts;
    this.parts += parts;
    this.height.set(i, NaN);
    this.width.set(i, NaN);
    this.first.set(i, first);
    this.end.set(i, this.parts);
    this.pixels.set(i, NaN);
    const { data } = this.points;
    let left = Infinity;
    let top = Infinity;
    let right = -Infinity;
    let bottom = -Infinity;
    for (let p = this.partStart(first); p < this.partStart(this.parts); p += 2) {
      left = Math.min(left, data[p]!);
      right = Math.max(right, data[p]!);
      top = Math.min(top, data[p + 1]!);
      bottom = Math.max(bottom, data[p + 1]!);
    }
    this.setReach(i, left - 1, top - 1, right + 1, bottom + 1);
  }
  partStart = (p: number): number => (p === 0 ? 0 : this.partEnd.data[p - 1]!);

  private setReach(i: number, left: number, top: number, right: number, bottom: number): void {
    this.reach.reserve(4 * i + 4);
    const { data } = this.reach;
    data[4 * i] = left;
    data[4 * i + 1] = top;
    data[4 * i + 2] = right;
    data[4 * i + 3] = bottom;
  }
}
