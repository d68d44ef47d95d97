/** One annotation or detection, as it stands in the JSON. */
import { Numbers, type Masks } from "./columns.js";
import { keys, type JsonReader } from "./json.js";

/** Numbers that an entry may have, NaN where it has not. */
const scalars = ["image_id", "category_id", "id", "iscrowd", "area", "num_keypoints", "score"] as const;
/** Their places. */
export const field = { imageId: 0, categoryId: 1, id: 2, crowd: 3, area: 4, numKeypoints: 5, score: 6 } as const;
type Field = (typeof field)[keyof typeof field];
const entryKeys = keys(...scalars, "bbox", "segmentation", "keypoints", "caption");
const [bboxKey, segmentationKey, keypointsKey, captionKey] = [7, 8, 9, 10] as const;
const runKeys = keys("size", "counts");

export class Entry {
  private readonly values = new Float64Array(scalars.length);
  /** Bit k: scalars[k] stands in the entry, be it NaN. */
  private present = 0;
  readonly box = new Numbers(new Float64Array(4));
  /** How many numbers there are; −1 without any array. */
  boxLength = -1;
  readonly keypoints = new Numbers(new Float64Array(64));
  keypointsLength = -1;
  mask: "none" | "polygons" | "runs" = "none";
  hasCaption = false;
  private polygons = 0;
  private textLength = 0;
  private readonly size = new Numbers(new Float64Array(4));
  private readonly counts = new Numbers(new Float64Array(64));

  constructor(
    private readonly r: JsonReader,
    private readonly masks: Masks,
  ) {}

  /** Reads the next object; mask and keypoints only where wanted. */
  read(wanted: { mask: boolean; keypoints: boolean }): void {
    const { r } = this;
    this.present = 0;
    this.boxLength = this.keypointsLength = -1;
    this.mask = "none";
    this.hasCaption = false;
    if (!r.openObject()) return;
    do {
      const k = r.key(entryKeys);
      if (k >= 0 && k < scalars.length) {
        if (r.isNull()) continue;
        if (r.isString()) r.fail(`has a text as ${scalars[k]}; a number is expected`);
        this.values[k] = r.number();
        this.present |= 1 << k;
      } else if (k === bboxKey) this.boxLength = numbers(r, this.box);
      else if (k === segmentationKey && wanted.mask) this.readMask();
      else if (k === keypointsKey && wanted.keypoints) this.keypointsLength = numbers(r, this.keypoints);
      else {
        this.hasCaption ||= k === captionKey;
        r.skip();
      }
    } while (r.moreKeys());
  }

  get(k: Field, otherwise?: number): number {
    if (this.present & (1 << k)) return this.values[k]!;
    return otherwise ?? this.r.fail(`has no ${scalars[k]}`);
  }
  id(k: Field): number {
    const value = this.get(k);
    return Number.isSafeInteger(value)
      ? value
      : this.r.fail(`has ${value} as ${scalars[k]}; an integer below 2^53 is expected`);
  }

  /** Puts the box into row i of boxes [n, 4]. */
  keepBox(boxes: Numbers, i: number): void {
    if (this.boxLength !== 4)
      this.r.fail(this.boxLength < 0 ? "has no bbox" : `has a bbox of ${this.boxLength} numbers; 4 are expected`);
    boxes.reserve(4 * i + 4);
    for (let k = 0; k < 4; k++) boxes.data[4 * i + k] = this.box.data[k]!;
  }
  /** Puts the keypoints into row i of keypoints [n, 3K]; the first row decides on K. */
  keepKeypoints(keypoints: Numbers, i: number, width: number): number {
    const n = this.keypointsLength;
    if (n < 0) this.r.fail("has no keypoints");
    if (n % 3 || (i > 0 && n !== width))
      this.r.fail(`has keypoints of ${n} numbers; ${i > 0 ? width : "x, y, visibility of each"} are expected`);
    keypoints.reserve((i + 1) * n);
    for (let k = 0; k < n; k++) keypoints.data[i * n + k] = this.keypoints.data[k]!;
    return n;
  }
  /** max − min of x times that of y. */
  keypointArea(): number {
    if (this.keypointsLength < 3) this.r.fail("has no keypoints");
    const low = [Infinity, Infinity];
    const high = [-Infinity, -Infinity];
    for (let k = 0; k < this.keypointsLength; k++) {
      if (k % 3 === 2) continue;
      low[k % 3] = Math.min(low[k % 3]!, this.keypoints.data[k]!);
      high[k % 3] = Math.max(high[k % 3]!, this.keypoints.data[k]!);
    }
    return (high[0]! - low[0]!) * (high[1]! - low[1]!);
  }
  /** Gives an entry without bbox the one around its mask. */
  setBox(box: Float64Array): void {
    this.box.data.set(box);
    this.boxLength = 4;
  }
  /** Gives an entry without segmentation the polygon of its bbox. */
  boxAsMask(): void {
    const [x, y, w, h] = this.box.data as unknown as [number, number, number, number];
    const { points, partEnd, parts } = this.masks;
    const start = this.masks.partStart(parts);
    [x, y, x, y + h, x + w, y + h, x + w, y].forEach((v, k) => points.set(start + k, v));
    partEnd.set(parts, start + 8);
    this.polygons = 1;
    this.mask = "polygons";
  }
  /** Makes the mask row i; of run lengths returns area and box, which of polygons only a drawing would tell. */
  keepMask(i: number): { area: number; box: Float64Array } | undefined {
    if (this.mask === "none") this.r.fail("has no segmentation");
    if (this.mask === "polygons") return void this.masks.setPolygons(i, this.polygons);
    const [height, width] = this.size.data as unknown as [number, number];
    const { covered, ...measured } = this.masks.setRuns(i, this.textLength, height, width);
    // an end that the other mask's runs wait for in vain: pycocotools never returns from these
    if (covered !== height * width && this.textLength > 0)
      this.r.fail(
        `has run lengths that cover ${covered} pixels, but its size [${height}, ${width}] has ${height * width}`,
      );
    return measured;
  }

  private readMask(): void {
    if (this.r.isNull()) return;
    if (this.r.isArray()) this.readPolygons();
    else this.readRuns();
  }
  /** [[x, y, …], …], written behind the last kept ones. */
  private readPolygons(): void {
    const { r } = this;
    const { points, partEnd, parts: first } = this.masks;
    let part = first;
    let n = this.masks.partStart(first);
    if (r.openArray())
      do {
        const start = n;
        if (r.openArray())
          do points.set(n++, r.number());
          while (r.moreElements());
        if (part === first && n - start <= 4)
          r.fail(`has a polygon of ${n - start} numbers; x, y of three vertices or more are expected`);
        if ((n - start) % 2) n--; // a last x without its y does not count
        partEnd.set(part++, n);
      } while (r.moreElements());
    this.mask = part > first ? "polygons" : r.fail("has an empty segmentation");
    this.polygons = part - first;
  }
  /** {size: [height, width], counts: text or [zeros, ones, …]}, written behind the last kept ones. */
  private readRuns(): void {
    const { r, masks } = this;
    let size = -1;
    this.textLength = -1;
    if (r.openObject())
      do {
        const k = r.key(runKeys);
        if (k === 0) size = numbers(r, this.size);
        else if (k === 1 && r.isString()) this.textLength = r.ascii(masks.text, masks.used);
        else if (k === 1) {
          const n = numbers(r, this.counts);
          if (n >= 0) this.textLength = masks.writeCounts(this.counts.data, n);
        } else r.skip();
      } while (r.moreKeys());
    if (size !== 2 || this.textLength < 0) r.fail("has a segmentation without counts and size [height, width]");
    this.mask = "runs";
  }
}

/** Reads an array of numbers and returns how many there were; −1 for null. */
function numbers(r: JsonReader, into: Numbers): number {
  if (r.isNull()) return -1;
  let n = 0;
  if (r.openArray())
    do into.set(n++, r.number());
    while (r.moreElements());
  return n;
}
