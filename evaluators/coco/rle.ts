/**
 * Masks as run lengths: [zeros, ones, zeros, …] down the columns, as in pycocotools.mask, whose answers these functions give bit for bit.
 * Those that take `counts, from, to` work on a stretch of a longer array, so that an evaluation keeps all its masks in a few.
 */

export interface Rle {
  height: number;
  width: number;
  /** Their sum is height · width. */
  counts: Uint32Array;
}

/** Pixels of a column-major mask [width, height], zero or not. */
export function encode(pixels: Uint8Array, height: number, width: number): Rle {
  const counts: number[] = [];
  let run = 0;
  let value = 0;
  for (let i = 0; i < height * width; i++) {
    if (pixels[i] !== value) {
      counts.push(run);
      run = 0;
      value = pixels[i]!;
    }
    run++;
  }
  counts.push(run);
  return { height, width, counts: Uint32Array.from(counts) };
}

/** The mask's pixels, 0 or 1, column-major. */
export function decode({ height, width, counts }: Rle): Uint8Array {
  const pixels = new Uint8Array(height * width);
  let at = 0;
  counts.forEach((run, j) => {
    if (at + run > pixels.length)
      throw new Error(`The run lengths go past the ${pixels.length} pixels of a ${height} × ${width} mask.`);
    if (j % 2) pixels.fill(1, at, at + run);
    at += run;
  });
  return pixels;
}

/** Pixels that are set. */
export const area = ({ counts }: Rle): number => areaOf(counts, 0, counts.length);

export function areaOf(counts: Uint32Array, from: number, to: number): number {
  let sum = 0;
  for (let j = from + 1; j < to; j += 2) sum += counts[j]!;
  return sum;
}

/** The box [x, y, w, h] around the set pixels. */
export function toBbox({ height, width, counts }: Rle): Float64Array {
  const box = new Float64Array(4);
  boundsOf(counts, 0, counts.length, height, width, box, 0);
  return box;
}

/** As `toBbox`, to box[at…at + 3]. */
export function boundsOf(
  counts: Uint32Array,
  from: number,
  to: number,
  height: number,
  width: number,
  box: Float64Array,
  at: number,
): void {
  const even = from + 2 * ((to - from) >> 1);
  if (even === from) return void box.fill(0, at, at + 4);
  let left = width;
  let top = height;
  let right = 0;
  let bottom = 0;
  let end = 0;
  let x = 0;
  let columnStart = 0;
  for (let j = from; j < even; j += 2) {
    const start = end + counts[j]!;
    end = start + counts[j + 1]!;
    if (end === start) continue;
    if (start >= columnStart + height) {
      x = Math.floor(start / height);
      columnStart = x * height;
    }
    if (x < left) left = x;
    const y0 = start - columnStart;
    const y1 = end - 1 - columnStart;
    if (y1 < height) {
      if (x > right) right = x;
      if (y0 < top) top = y0;
      if (y1 > bottom) bottom = y1;
    } else {
      right = Math.max(right, Math.floor((end - 1) / height));
      top = 0;
      bottom = height - 1;
    }
  }
  // unsigned, as in C: where all runs of ones are empty the box is as odd as pycocotools'
  box[at] = left;
  box[at + 1] = top;
  box[at + 2] = (right - left + 1) >>> 0;
  box[at + 3] = (bottom - top + 1) >>> 0;
}

/** Union, or intersection, of masks of one size. */
export function merge(masks: readonly Rle[], intersect = false): Rle {
  const [first, ...rest] = masks;
  if (!first) return { height: 0, width: 0, counts: new Uint32Array(0) };
  const { height, width } = first;
  let counts = first.counts;
  for (const mask of rest) {
    if (mask.height !== height || mask.width !== width) return { height: 0, width: 0, counts: new Uint32Array(0) };
    const merged = new Uint32Array(counts.length + mask.counts.length);
    const n = mergeOf(counts, 0, counts.length, mask.counts, 0, mask.counts.length, intersect, merged, 0);
    counts = merged.slice(0, n);
  }
  return { height, width, counts };
}

/** Writes the union or intersection of a and b to out[at…] and returns how many counts it has: at most as many as both. */
export function mergeOf(
  a: Uint32Array,
  aFrom: number,
  aTo: number,
  b: Uint32Array,
  bFrom: number,
  bTo: number,
  intersect: boolean,
  out: Uint32Array,
  at: number,
): number {
  let i = aFrom;
  let j = bFrom;
  let n = at;
  let inA = false;
  let inB = false;
  let inside = false;
  let restA = a[i++]!;
  let restB = b[j++]!;
  let run = 0;
  for (let more = true; more;) {
    const c = Math.min(restA, restB);
    run += c;
    restA -= c;
    restB -= c;
    if (restA === 0 && i < aTo) {
      restA = a[i++]!;
      inA = !inA;
    }
    if (restB === 0 && j < bTo) {
      restB = b[j++]!;
      inB = !inB;
    }
    more = restA + restB > 0;
    const now = intersect ? inA && inB : inA || inB;
    if (now !== inside || !more) {
      out[n++] = run;
      run = 0;
    }
    inside = now;
  }
  return n - at;
}

/** Intersection over union, over the area of a where b is a crowd. */
export function iouOf(
  a: Uint32Array,
  aFrom: number,
  aTo: number,
  b: Uint32Array,
  bFrom: number,
  bTo: number,
  crowd: boolean,
): number {
  let i = aFrom;
  let j = bFrom;
  let inA = 0;
  let inB = 0;
  let restA = a[i++]!;
  let restB = b[j++]!;
  let both = 0;
  let either = 0;
  do {
    const c = restA < restB ? restA : restB;
    if (inA | inB) {
      either += c;
      if (inA & inB) both += c;
    }
    restA -= c;
    restB -= c;
    if (restA === 0 && i < aTo) {
      restA = a[i++]!;
      inA ^= 1;
    }
    if (restB === 0 && j < bTo) {
      restB = b[j++]!;
      inB ^= 1;
    }
  } while (restA + restB > 0);
  return both === 0 ? 0 : both / (crowd ? areaOf(a, aFrom, aTo) : either);
}

/** Intersections over union [detections, truths] of masks; −1 where boxes meet and sizes differ. */
export function iou(
  detections: readonly Rle[],
  truths: readonly Rle[],
  crowd: ArrayLike<number | boolean>,
): Float64Array {
  const out = new Float64Array(detections.length * truths.length);
  [...detections, ...truths].forEach(checkSum);
  const boxes = (masks: readonly Rle[]) => Float64Array.from(masks.flatMap((m) => [...toBbox(m)]));
  boxIou(boxes(detections), boxes(truths), crowd, out);
  detections.forEach((a, d) =>
    truths.forEach((b, g) => {
      const at = d * truths.length + g;
      if (!(out[at]! > 0)) return;
      const sameSize = a.height === b.height && a.width === b.width;
      out[at] = sameSize ? iouOf(a.counts, 0, a.counts.length, b.counts, 0, b.counts.length, Boolean(crowd[g])) : -1;
    }),
  );
  return out;
}

/** Runs that end early would never meet their other's end. */
function checkSum({ height, width, counts }: Rle): void {
  const sum = counts.reduce((a, b) => a + b, 0);
  if (counts.length && sum !== height * width)
    throw new Error(`The run lengths cover ${sum} pixels, but a ${height} × ${width} mask has ${height * width}.`);
}

/** Intersections over union [D, G] of boxes [D, 4] and [G, 4] as x, y, w, h; over the detection's area where the truth is a crowd. */
export function boxIou(
  detections: Float64Array,
  truths: Float64Array,
  crowd: ArrayLike<number | boolean>,
  out = new Float64Array((detections.length * truths.length) / 16),
): Float64Array {
  const n = truths.length / 4;
  for (let d = 0; d < detections.length; d += 4)
    for (let g = 0; g < truths.length; g += 4)
      out[(d / 4) * n + g / 4] = boxIouOf(detections, d, truths, g, Boolean(crowd[g / 4]));
  return out;
}

/** Intersection over union of the boxes a[i…i + 3] and b[j…j + 3]. */
export function boxIouOf(a: Float64Array, i: number, b: Float64Array, j: number, crowd: boolean): number {
  const w = smaller(a[i + 2]! + a[i]!, b[j + 2]! + b[j]!) - larger(a[i]!, b[j]!);
  if (w <= 0) return 0;
  const h = smaller(a[i + 3]! + a[i + 1]!, b[j + 3]! + b[j + 1]!) - larger(a[i + 1]!, b[j + 1]!);
  if (h <= 0) return 0;
  const both = w * h;
  const own = a[i + 2]! * a[i + 3]!;
  return both / (crowd ? own : own + b[j + 2]! * b[j + 3]! - both);
}
/** C's fmin and fmax: of a number and NaN, the number. */
const smaller = (a: number, b: number): number => (a < b || b !== b ? a : b);
const larger = (a: number, b: number): number => (a > b || b !== b ? a : b);

/** The compressed text: each count less the one before the last, in groups of five bits from the lowest, "0" to "o". */
export function toString({ counts }: Rle): string {
  const text = new Uint8Array(counts.length * 7);
  return new TextDecoder("latin1").decode(text.subarray(0, compress(counts, 0, counts.length, text, 0)));
}

/** Writes the compressed text of a stretch of counts to text[at…], seven bytes a count at most, and returns its length. */
export function compress(counts: ArrayLike<number>, from: number, to: number, text: Uint8Array, at: number): number {
  let n = at;
  for (let j = from; j < to; j++) {
    let x = j - from > 2 ? counts[j]! - counts[j - 2]! : counts[j]!;
    for (let more = true; more;) {
      const five = x & 31;
      x = Math.floor(x / 32);
      more = x !== (five & 16 ? -1 : 0);
      text[n++] = (five | (more ? 32 : 0)) + 48;
    }
  }
  return n - at;
}

export function fromString(text: string, height: number, width: number): Rle {
  const bytes = new TextEncoder().encode(text);
  const counts = new Uint32Array(bytes.length);
  return { height, width, counts: counts.slice(0, expand(bytes, 0, bytes.length, counts, 0)) };
}

/** Writes the counts of a stretch of compressed text to counts[at…], one a byte at most, and returns how many there are. */
export function expand(text: Uint8Array, from: number, to: number, counts: Uint32Array, at: number): number {
  let n = at;
  for (let p = from; p < to;) {
    let x = 0;
    let shift = 0;
    let c: number;
    do {
      c = text[p++]! - 48;
      x |= (c & 31) << shift;
      shift += 5;
    } while (c & 32 && p < to);
    if (c & 16) x |= -1 << shift;
    if (n - at > 2) x += counts[n - 2]!;
    counts[n++] = x;
  }
  return n - at;
}
