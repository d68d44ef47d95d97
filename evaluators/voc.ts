/** PASCAL VOC detection (Everingham et al., IJCV 2010): average precision of each class by the rules of the development kit's voc_eval. */

/** Corners xmin, ymin, xmax, ymax of pixels, counted from 1, both included. */
export type VocBox = readonly [number, number, number, number];

export interface VocObject {
  name: string;
  box: VocBox;
  /** Neither for nor against: finding it counts nothing. */
  difficult: boolean;
}
/** By class: what was found. */
export type VocDetections = Map<string, { image: string; score: number; box: VocBox }[]>;

export interface VocOptions {
  /** Detections overlap more than this to count. */
  iou: number;
  /** "07": the mean precision at recalls 0, 0.1, …, 1. "12": the area under the curve. */
  metric: "07" | "12";
}
export const vocDefaults: VocOptions = { iou: 0.5, metric: "12" };

export interface VocResult {
  /** Mean over classes, per cent. */
  map: number;
  /** Per cent by class; null where it has no objects. */
  ap: Record<string, number | null>;
}

/** Scores detections on images; detections on other images count as false. */
export function vocEval(
  truth: ReadonlyMap<string, readonly VocObject[]>,
  found: VocDetections,
  options: Partial<VocOptions> = {},
): VocResult {
  const { iou, metric } = { ...vocDefaults, ...options };
  const classes = [...new Set([...truth.values()].flat().map(({ name }) => name))].sort();
  const ap = Object.fromEntries(
    classes.map((name) => {
      const { precision, recall, positives } = curve(name, truth, found, iou);
      return [name, positives ? 100 * (metric === "07" ? elevenPoints : area)(precision, recall) : null];
    }),
  );
  const values = Object.values(ap).filter((v) => v !== null);
  return { map: values.reduce((a, b) => a + b, 0) / values.length, ap };
}

/** Precision and recall after each detection of a class, by score. */
function curve(name: string, truth: ReadonlyMap<string, readonly VocObject[]>, found: VocDetections, least: number) {
  const objects = new Map([...truth].map(([image, all]) => [image, all.filter((o) => o.name === name)]));
  const positives = [...objects.values()].flat().filter((o) => !o.difficult).length;
  const taken = new Set<VocObject>();
  const precision: number[] = [];
  const recall: number[] = [];
  let [right, wrong] = [0, 0];
  for (const { image, box } of [...(found.get(name) ?? [])].sort((a, b) => b.score - a.score)) {
    let best: VocObject | undefined;
    let highest = -Infinity;
    for (const object of objects.get(image) ?? []) {
      const overlap = vocIou(box, object.box);
      if (overlap > highest) [best, highest] = [object, overlap];
    }
    if (!best || highest <= least) wrong++;
    else if (!best.difficult) {
      if (taken.has(best)) wrong++;
      else right++;
      taken.add(best);
    }
    precision.push(right / Math.max(right + wrong, Number.EPSILON));
    recall.push(right / positives);
  }
  return { precision, recall, positives };
}

/** Intersection over union of boxes in whole pixels. */
export function vocIou(a: VocBox, b: VocBox): number {
  const side = (from: number, to: number): number => Math.max(0, to - from + 1);
  const both = side(Math.max(a[0], b[0]), Math.min(a[2], b[2])) * side(Math.max(a[1], b[1]), Math.min(a[3], b[3]));
  const size = ([x0, y0, x1, y1]: VocBox): number => (x1 - x0 + 1) * (y1 - y0 + 1);
  return both / (size(a) + size(b) - both);
}

function elevenPoints(precision: number[], recall: number[]): number {
  let sum = 0;
  for (let t = 0; t <= 10; t++) sum += Math.max(0, ...precision.filter((_, i) => recall[i]! >= t * 0.1)) / 11;
  return sum;
}

/** Under the envelope: the highest precision at or beyond each recall. */
function area(precision: number[], recall: number[]): number {
  let sum = 0;
  let highest = 0;
  for (let i = precision.length - 1; i >= 0; i--) {
    highest = Math.max(highest, precision[i]!);
    sum += (recall[i]! - (recall[i - 1] ?? 0)) * highest;
  }
  return sum;
}
