/** Image files to RGB bytes, through sharp. */
import sharp, { type Sharp } from "sharp";
import type { Image } from "./dataset.js";

sharp.cache(false);
sharp.concurrency(1);

/** File name endings that are read as images. */
export const extensions = [".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".avif"];

/**
 * RGB uint8 of a file's first frame, upright, short side ≤ shortSide (without one: as it is). Grey, CMYK and 16-bit become 8-bit sRGB; alpha is
 * dropped, as PIL's convert("RGB") does.
 */
export async function decode(file: string | Buffer, shortSide?: number): Promise<Image> {
  const image = sharp(file, { failOn: "error", pages: 1, limitInputPixels: false }).autoOrient();
  if (shortSide) image.resize({ width: shortSide, height: shortSide, fit: "outside", withoutEnlargement: true });
  const { data, info } = await image
    .toColourspace("srgb")
    .removeAlpha()
    .raw({ depth: "uchar" })
    .toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, data: planes(data, info.channels) };
}

export interface Size {
  width: number;
  height: number;
}

/** The same, resized (linear, antialiased) to what `resized` makes of the size that the file has. */
export async function decodeResized(file: string, resized: (own: Size) => Size): Promise<Image> {
  const image = sharp(file, { failOn: "error", pages: 1, limitInputPixels: false });
  const { autoOrient } = await image.metadata();
  const { data, info } = await image
    .autoOrient()
    .resize({ ...resized(autoOrient), fit: "fill", kernel: "linear" })
    .toColourspace("srgb")
    .removeAlpha()
    .raw({ depth: "uchar" })
    .toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, data: planes(data, info.channels) };
}

/** [h·w, channels] → [3, h·w]; grey is repeated where sharp kept one channel. */
function planes(data: Buffer, channels: number): Uint8Array {
  const n = data.length / channels;
  const out = new Uint8Array(3 * n);
  for (let c = 0; c < 3; c++) {
    const from = channels < 3 ? 0 : c;
    for (let i = 0, at = from, to = c * n; i < n; i++, at += channels, to++) out[to] = data[at]!;
  }
  return out;
}

/** [3, h·w] → [h·w, 3], as sharp takes it */
function picture({ width, height, data }: Image): Sharp {
  const n = width * height;
  const interleaved = Buffer.alloc(3 * n);
  for (let i = 0; i < n; i++) for (let c = 0; c < 3; c++) interleaved[3 * i + c] = data[c * n + i]!;
  return sharp(interleaved, { raw: { width, height, channels: 3 } });
}

/** A picture of planes, for people: PNG bytes. */
export const encodePng = (image: Image): Promise<Buffer> => picture(image).png().toBuffer();

/** A thumbnail for people: the middle of a picture, `side` pixels square, JPEG bytes. */
export const encodeJpeg = (image: Image, side: number): Promise<Buffer> =>
  picture(image).resize(side, side, { fit: "cover" }).jpeg({ quality: 82 }).toBuffer();

/** The image with a short side of at most shortSide. */
export async function shrunk(image: Image, shortSide: number): Promise<Image> {
  if (Math.min(image.width, image.height) <= shortSide) return image;
  const { data, info } = await picture(image)
    .resize({ width: shortSide, height: shortSide, fit: "outside" })
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, data: planes(data, 3) };
}
