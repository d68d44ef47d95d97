/** Label maps in PNG: palette indices or grey values as they are stored, which decoders for pictures turn into colours. */
import { readFileSync } from "node:fs";
import { inflateSync } from "node:zlib";

export interface LabelMap {
  width: number;
  height: number;
  /** [height, width] */
  labels: Uint16Array;
}

const signature = "\x89PNG\r\n\x1a\n";

/** Reads a palette or grey PNG of 1 to 16 bits. */
export function readLabelPng(path: string): LabelMap {
  const fail = (problem: string): never => {
    throw new Error(`${path} ${problem}.`);
  };
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (e) {
    return fail(`cannot be read: ${(e as Error).message}`);
  }
  if (bytes.toString("latin1", 0, 8) !== signature) fail("is no PNG");
  const data: Buffer[] = [];
  for (let at = 8; at + 12 <= bytes.length; at += 12 + bytes.readUInt32BE(at))
    if (bytes.toString("latin1", at + 4, at + 8) === "IDAT")
      data.push(bytes.subarray(at + 8, at + 8 + bytes.readUInt32BE(at)));
  const [width, height, depth, colour, interlaced] = [
    bytes.readUInt32BE(16),
    bytes.readUInt32BE(20),
    bytes[24]!,
    bytes[25]!,
    bytes[28]!,
  ];
  if (colour !== 0 && colour !== 3) fail("has colours or alpha; a label PNG has a palette or grey values");
  if (interlaced) fail("is interlaced, which label PNGs here may not be");
  let rows: Buffer;
  try {
    rows = inflateSync(Buffer.concat(data));
  } catch (e) {
    return fail(`is cut short or damaged: ${(e as Error).message}`);
  }
  const stride = Math.ceil((width * depth) / 8);
  if (rows.length < height * (stride + 1)) fail("is cut short");
  unfilter(rows, height, stride, Math.max(1, depth / 8));
  const labels = new Uint16Array(width * height);
  for (let y = 0; y < height; y++) {
    const row = y * (stride + 1) + 1;
    for (let x = 0; x < width; x++) {
      const bit = x * depth;
      labels[y * width + x] =
        depth === 16
          ? rows.readUInt16BE(row + 2 * x)
          : (rows[row + (bit >> 3)]! >> (8 - depth - (bit & 7))) & (2 ** depth - 1);
    }
  }
  return { width, height, labels };
}

/** Undoes PNG's row filters in place; each row stands behind the byte of its filter. */
function unfilter(rows: Buffer, height: number, stride: number, step: number): void {
  for (let y = 0; y < height; y++) {
    const start = y * (stride + 1);
    const filter = rows[start]!;
    for (let i = 1; i <= stride; i++) {
      const at = start + i;
      const left = i > step ? rows[at - step]! : 0;
      const up = y > 0 ? rows[at - stride - 1]! : 0;
      const corner = y > 0 && i > step ? rows[at - stride - 1 - step]! : 0;
      const predicted = [0, left, up, (left + up) >> 1][filter] ?? nearest(left, up, corner);
      rows[at] = rows[at]! + predicted;
    }
  }
}
/** Paeth's predictor: of left, up and corner the one nearest to left + up − corner. */
function nearest(left: number, up: number, corner: number): number {
  const p = left + up - corner;
  const [a, b, c] = [Math.abs(p - left), Math.abs(p - up), Math.abs(p - corner)];
  return a <= b && a <= c ? left : b <= c ? up : corner;
}
