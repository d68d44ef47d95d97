/** Images brought to grey, RGB, or RGB and alpha. */
import type { Channels } from "../views.js";
import { channelsOf, type Image } from "./dataset.js";

/**
 * The image with so many channels: colours to grey by their luma, grey to colours by repetition; alpha is opaque where the image has
 * none, and dropped where none is wanted.
 */
export function withChannels(image: Image, wanted: Channels): Image {
  const has = channelsOf(image);
  if (has === wanted) return image;
  const { width, height, data } = image;
  const n = width * height;
  const plane = (c: number): Uint8Array => data.subarray(c * n, (c + 1) * n);
  const colours = has < 3 ? [plane(0)] : [plane(0), plane(1), plane(2)];
  const out = new Uint8Array(wanted * n);
  if (wanted === 1) out.set(colours.length === 1 ? colours[0]! : luma(colours as [Uint8Array, Uint8Array, Uint8Array]));
  else for (let c = 0; c < 3; c++) out.set(colours[c % colours.length]!, c * n);
  if (wanted === 4) out.set(has === 2 ? plane(1) : new Uint8Array(n).fill(255), 3 * n);
  return { width, height, data: out };
}

/** PIL's convert("L"): (19595 r + 38470 g + 7471 b + 0x8000) >> 16 */
const luma = ([r, g, b]: [Uint8Array, Uint8Array, Uint8Array]): Uint8Array =>
  r.map((v, i) => (19595 * v + 38470 * g[i]! + 7471 * b[i]! + 0x8000) >> 16);
