/** Photographs with boxes drawn on them: what was found, and what is there. */
import sharp, { type OverlayOptions } from "sharp";
import { escaped } from "../../src/markup.js";
import type { Detections, GroundTruth } from "../coco/columns.js";
import type { DetectionData } from "./folder.js";

/** Photographs shown, pixels of their height and between them, least score of a box that is drawn. */
const [shown, height, gap, least] = [4, 320, 12, 0.5];

/** Equal steps round the circle of colours. */
const colourOf = (label: number, classes: number): string => `hsl(${Math.round((360 * label) / classes)},90%,42%)`;

/** A row for each of some test images, spread over the split: what was found with its scores, and what is there. */
export async function detectionPicture({ test, classes }: DetectionData, found: Detections): Promise<Buffer> {
  const count = Math.min(shown, test.files.length);
  const chosen = Array.from({ length: count }, (_, k) => Math.floor(((k + 0.5) * test.files.length) / count));
  const parts: OverlayOptions[] = [];
  let [top, width] = [gap, 0];
  for (const i of chosen) {
    const photo = await sharp(test.files[i])
      .autoOrient()
      .resize({ height })
      .png()
      .toBuffer({ resolveWithObject: true });
    const scale = height / test.sizes[i]!.height;
    const panels = [drawn(found, i, scale, classes), drawn(test.truth, i, scale, classes)];
    panels.forEach((boxes, p) => {
      const left = gap + p * (photo.info.width + gap);
      const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${photo.info.width}" height="${height}" font-family="sans-serif" font-size="11">${boxes}</svg>`;
      parts.push({ input: photo.data, left, top }, { input: Buffer.from(svg), left, top });
    });
    width = Math.max(width, 2 * photo.info.width + 3 * gap);
    top += height + gap;
  }
  return sharp({ create: { width, height: top, channels: 3, background: "#ffffff" } })
    .composite(parts)
    .png()
    .toBuffer();
}

/** The boxes of image i as SVG, with names and, where there are, scores. */
function drawn(objects: GroundTruth | Detections, i: number, scale: number, classes: readonly string[]): string {
  const boxes: string[] = [];
  for (let k = 0; k < objects.length; k++) {
    const [score, label] = ["score" in objects ? objects.score[k]! : undefined, objects.category[k]!];
    if (objects.image[k] !== i || label < 0 || (score ?? 1) < least) continue;
    const [x, y, w, h] = [...objects.boxes!.subarray(4 * k, 4 * k + 4)].map((v) => (v * scale).toFixed(1));
    const [colour, name] = [colourOf(label, classes.length), escaped(classes[label]!)];
    boxes.push(
      `<rect x="${x}" y="${y}" width="${w}" height="${h}" fill="none" stroke="${colour}" stroke-width="2"/>` +
        `<text x="${Number(x) + 3}" y="${Number(y) + 12}" fill="${colour}" stroke="#fff" stroke-width="3" paint-order="stroke">${name}${score === undefined ? "" : ` ${score.toFixed(2)}`}</text>`,
    );
  }
  return boxes.join("");
}
