/** Image files to bytes, through sharp. */
import sharp, { type ResizeOptions, type Sharp } from "sharp";
import type { Channels } from "../views.js";
import { withChannels } from "./channels.js";
import { channelsOf, type Image } from "./dataset.js";

sharp.cache(false);
sharp.concurrency(1);

/** File name endings that are read as images. */
export const extensions = [".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".avif"];

/** uint8 of a file's first frame, upright, short side ≤ shortSide (without one: as it is), as `resized` has it. */
export const decode = (file: string | Buffer, shortSide?: number, channels: Channels = 3): Promise<Image> =>
  resized(
    file,
    shortSide ? { width: shortSide, height: shortSide, fit: "outside", withoutEnlargement: true } : {},
    channels,
  );

export interface Size {
  width: number;
  height: number;
}

/** The size of an image as it is decoded, upright, by its header alone. */
export async function sizeOf(file: string): Promise<Size> {
  const { autoOrient } = await sharp(file, { limitInputPixels: false })
    .metadata()
    .catch((e: Error) => {
      throw new Error(`${file} cannot be read: ${e.message.split("\n")[0]}`, { cause: e });
    });
  return autoOrient;
}

/** RGB uint8, resized to `size` (linear, antialiased). */
export const decodeResized = (file: string, size: Size): Promise<Image> =>
  resized(file, { ...size, fit: "fill", kernel: "linear" }, 3);

/**
 * uint8 of a file's first frame, upright and resized. Grey, CMYK and 16-bit become 8-bit sRGB, or grey by its luma; alpha is dropped
 * where it is not asked for, as PIL's convert does.
 */
export async function resized(file: string | Buffer, size: ResizeOptions, channels: Channels): Promise<Image> {
  const image = sharp(file, { failOn: "error", pages: 1, limitInputPixels: false })
    .autoOrient()
    .resize(size)
    .toColourspace("srgb");
  return withChannels(await planar(channels === 4 ? image : image.removeAlpha()), channels);
}

/** [h·w, C] as sharp gives it → [C, h·w] */
async function planar(image: Sharp): Promise<Image> {
  const { data, info } = await image.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  const n = width * height;
  const out = new Uint8Array(channels * n);
  for (let c = 0, to = 0; c < channels; c++)
    for (let i = 0, from = c; i < n; i++, from += channels, to++) out[to] = data[from]!;
  return { width, height, data: out };
}

/** [C, h·w] → [h·w, C], as sharp takes it */
function picture(image: Image): Sharp {
  const { width, height, data } = image;
  const n = width * height;
  const channels = channelsOf(image);
  const interleaved = Buffer.alloc(channels * n);
  for (let i = 0; i < n; i++) for (let c = 0; c < channels; c++) interleaved[channels * i + c] = data[c * n + i]!;
  return sharp(interleaved, { raw: { width, height, channels: channels as Channels } });
}

/** A picture of planes, for people: PNG bytes. */
export const encodePng = (image: Image): Promise<Buffer> => picture(image).png().toBuffer();

/** A thumbnail for people: the middle of a picture, `side` pixels square, JPEG bytes. */
export const encodeJpeg = (image: Image, side: number): Promise<Buffer> =>
  picture(image).resize(side, side, { fit: "cover" }).jpeg({ quality: 82 }).toBuffer();

/** The image with a short side of at most shortSide. */
export async function shrunk(image: Image, shortSide: number): Promise<Image> {
  if (Math.min(image.width, image.height) <= shortSide) return image;
  return planar(picture(image).resize({ width: shortSide, height: shortSide, fit: "outside" }));
}
