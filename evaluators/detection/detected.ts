/** What a detector finds in a split, as COCO's judge, VOC's judge and their files take it. */
import { readImage } from "../../src/data/dataset.js";
import type { Size } from "../../src/data/decode.js";
import type { Engine } from "../../src/engines/index.js";
import type { Tensors } from "../../src/tensor.js";
import type { Detections } from "../coco/columns.js";
import { resizedImages, type DetectionData, type Fit, type JudgedImages } from "./folder.js";
import { viewsOf } from "./views.js";
import type { VocDetections } from "../voc.js";

interface Found {
  image: number;
  label: number;
  score: number;
  /** x, y, w, h in pixels of the image, from 0 */
  box: [number, number, number, number];
}

/** Every image of a split through a detector of one size, which fills what the image leaves with `fill`. */
export async function detected(
  engine: Engine,
  model: Uint8Array,
  split: JudgedImages,
  fill: readonly number[],
  view: Size & { fit: Fit },
): Promise<Detections> {
  const images = resizedImages(split, view, view.fit);
  const all: Found[] = [];
  const session = await engine.session(model);
  try {
    let next = readImage(images, 0);
    for (let i = 0; i < images.length; i++) {
      const seen = await next;
      if (i + 1 < images.length) next = readImage(images, i + 1);
      next.catch(() => undefined);
      const outputs = await session.run({ image: viewsOf([seen], [false], view, fill) });
      all.push(...foundIn(outputs, i, split.sizes[i]!, seen));
    }
  } finally {
    session.release();
  }
  return {
    length: all.length,
    image: Int32Array.from(all, (f) => f.image),
    category: Int32Array.from(all, (f) => f.label),
    score: Float64Array.from(all, (f) => f.score),
    boxes: Float64Array.from(all.flatMap((f) => f.box)),
    area: Float64Array.from(all, ({ box: [, , w, h] }) => w * h),
  };
}

/** The detector's outputs on image i of size `own`, which it saw in size `seen`; what lies beside the image is cut off. */
function foundIn({ boxes, scores, labels }: Tensors, i: number, own: Size, seen: Size): Found[] {
  const [across, down] = [own.width / seen.width, own.height / seen.height];
  return Array.from({ length: scores!.data.length }, (_, k) => {
    const corners = (boxes!.data as Float32Array).subarray(4 * k, 4 * k + 4);
    const [x1, y1, x2, y2] = Array.from(corners, (v, side) =>
      side % 2 ? Math.min(own.height, v * down) : Math.min(own.width, v * across),
    ) as Found["box"];
    const box: Found["box"] = [x1, y1, x2 - x1, y2 - y1];
    return { image: i, label: Number(labels!.data[k]), score: Number(scores!.data[k]), box };
  });
}

/** Detections as VOC writes them: corners counted from 1, both included. */
export function vocDetections(found: Detections, names: readonly string[], classes: readonly string[]): VocDetections {
  const out: VocDetections = new Map(classes.map((name) => [name, []]));
  for (let k = 0; k < found.length; k++) {
    const [x, y, w, h] = found.boxes!.subarray(4 * k, 4 * k + 4) as unknown as Found["box"];
    const box = [x + 1, y + 1, x + w, y + h] as const;
    out.get(classes[found.category[k]!]!)!.push({ image: names[found.image[k]!]!, score: found.score[k]!, box });
  }
  return out;
}

/** The results as JSON: with COCO's ids for coco-eval, with VOC's names for voc-eval. */
export function resultsOf(found: Detections, { classes, test }: DetectionData): string {
  const names = test.voc && [...test.voc.keys()];
  const { images, categories } = test.truth;
  return JSON.stringify(
    Array.from({ length: found.length }, (_, k) => ({
      image_id: names ? names[found.image[k]!] : images.id[found.image[k]!],
      category_id: names ? classes[found.category[k]!] : categories[found.category[k]!]!.id,
      bbox: [...found.boxes!.subarray(4 * k, 4 * k + 4)],
      score: found.score[k],
    })),
  );
}
