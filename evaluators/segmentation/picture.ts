/** Photographs with label maps beside them. */
import type { Image } from "../../src/data/dataset.js";
import type { LabelMap } from "../../src/data/labelPng.js";
import { ignored } from "../../src/data/segmentationFolder.js";

/** PASCAL VOC's colour of a label: its bits dealt to red, green and blue in turn, from the highest down. Ignored pixels are white. */
export function labelColour(label: number): [number, number, number] {
  if (label === ignored) return [255, 255, 255];
  const channel = (c: number): number => {
    let value = 0;
    for (let k = 0; k < 8; k++) value |= ((label >> (3 * k + c)) & 1) << (7 - k);
    return value;
  };
  return [channel(0), channel(1), channel(2)];
}

export interface Answer {
  image: Image;
  prediction: LabelMap;
  truth: LabelMap;
}

const gap = 6;

/** A row for each image: the photograph, the answer, the truth. */
export function answerSheet(answers: readonly Answer[]): Image {
  const widest = Math.max(...answers.map((a) => a.image.width));
  const width = 3 * widest + 4 * gap;
  const height = answers.reduce((sum, a) => sum + a.image.height + gap, gap);
  const area = width * height;
  const data = new Uint8Array(3 * area).fill(255);
  let top = gap;
  for (const { image, prediction, truth } of answers) {
    const pixels = image.width * image.height;
    const colours = [prediction, truth].map(({ labels }) => Array.from(labels, labelColour));
    const panels = [(i: number, c: number) => image.data[c * pixels + i]!, ...colours.map((own) => (i: number, c: number) => own[i]![c]!)]; // prettier-ignore
    panels.forEach((value, p) => {
      const left = gap + p * (widest + gap);
      for (let i = 0; i < pixels; i++) {
        const at = (top + Math.floor(i / image.width)) * width + left + (i % image.width);
        for (let c = 0; c < 3; c++) data[c * area + at] = value(i, c);
      }
    });
    top += image.height + gap;
  }
  return { width, height, data };
}
