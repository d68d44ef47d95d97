/** What a detector of one size sees: whole images in the upper left corner of a view, and their objects moved with them. */
import type { Image } from "../../src/data/dataset.js";
import type { Size } from "../../src/data/decode.js";
import { tensor, zeros, type Tensor } from "../../src/tensor.js";
import type { BoxedObject } from "./folder.js";

/** Images in 0–1, mirrored where asked: [B,3,H,W], of colour `fill` (which is 0 once normalised) where they do not reach. */
export function viewsOf(
  images: readonly Image[],
  flips: readonly boolean[],
  view: Size,
  fill: readonly number[],
): Tensor {
  const area = view.height * view.width;
  const out = zeros("float32", [images.length, fill.length, view.height, view.width]);
  images.forEach(({ width, height, data }, i) =>
    fill.forEach((colour, c) => {
      const plane = out.data.subarray((fill.length * i + c) * area, (fill.length * i + c + 1) * area);
      if (width < view.width || height < view.height) plane.fill(colour);
      const [first, step] = flips[i] ? [width - 1, -1] : [0, 1];
      for (let y = 0; y < height; y++) {
        let from = (c * height + y) * width + first;
        for (let to = y * view.width, end = to + width; to < end; to++, from += step) plane[to] = data[from]! / 255;
      }
    }),
  );
  return out;
}

/** The objects of an image of size `own` once it is resized to `now`, and mirrored where asked. */
export const moved = (objects: readonly BoxedObject[], own: Size, now: Size, flip: boolean): BoxedObject[] =>
  objects.map(({ box, label }) => {
    const [across, down] = [now.width / own.width, now.height / own.height];
    const [x1, y1, x2, y2] = [box[0] * across, box[1] * down, box[2] * across, box[3] * down];
    return { box: flip ? [now.width - x2, y1, now.width - x1, y2] : [x1, y1, x2, y2], label };
  });

/** Objects of several images in `places` places each: boxes [B,M,4], labels int64 [B,M], −1 for an empty place. */
export function placed(
  objects: readonly (readonly BoxedObject[])[],
  places: number,
): { boxes: Tensor; labels: Tensor } {
  const boxes = zeros("float32", [objects.length, places, 4]);
  const labels = tensor("int64", [objects.length, places], Array<number>(objects.length * places).fill(-1));
  objects.forEach((own, i) =>
    own.forEach(({ box, label }, k) => {
      boxes.data.set(box, 4 * (i * places + k));
      labels.data[i * places + k] = BigInt(label);
    }),
  );
  return { boxes, labels };
}
