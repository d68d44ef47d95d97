/** From predictions to detections: torchvision's FCOS.postprocess_detections as a graph. */
import { constant, dims, type Value } from "../../src/onnx/graph.js";
import {
  Add,
  Concat,
  Div,
  Expand,
  Gather,
  Greater,
  Max,
  Min,
  Mul,
  NonMaxSuppression,
  NonZero,
  OneHot,
  Reshape,
  ScatterElements,
  Sigmoid,
  Slice,
  Split,
  Sqrt,
  Squeeze,
  Sub,
  TopK,
  Unsqueeze,
} from "../../src/ops/index.js";
import type { Predictions } from "./head.js";
import { boxesOf, type Locations } from "./locations.js";

export interface DetectionLimits {
  /** Only detections that score more. */
  scoreThreshold: number;
  /** Of two detections of a class that overlap more, the one that scores less is dropped. */
  nmsThreshold: number;
  /** Best pairs of location and class that each level hands on. */
  candidates: number;
  /** Detections of an image at most. */
  maxDetections: number;
}

export interface Detected {
  /** [n,4] x1, y1, x2, y2 in pixels of the input */
  boxes: Value;
  /** [n] descending */
  scores: Value;
  /** int64 [n] */
  labels: Value;
}

/**
 * The detections of one image (predictions of a batch of 1) of height × width pixels: scores √(σ(class)·σ(centerness)), the best candidates of
 * each level, boxes cut to the image, suppression class by class, the best of what is left.
 */
export function detectionsOf(
  { logits, distances, centerness }: Predictions,
  locations: Locations,
  { height, width, ...limits }: DetectionLimits & { height: number; width: number },
): Detected {
  const classes = logits.shape[2] as number;
  const scores = Sqrt(Mul(Sigmoid(logits), Sigmoid(centerness))); // [1,A,C]
  let before = 0;
  const candidates = Split(scores, locations.counts, { axis: 1 }).map((level, l) => {
    const pairs = locations.counts[l]! * classes;
    const [best, at] = TopK(Reshape(level, [pairs]), Math.min(limits.candidates, pairs));
    const from = before;
    before += pairs;
    return { best, at: Add(at, constant([], from, "int64")) };
  });
  const score = Concat(
    candidates.map((c) => c.best),
    { axis: 0 },
  ); // [K]
  const pair = Concat(
    candidates.map((c) => c.at),
    { axis: 0 },
  );
  const place = Div(pair, constant([], classes, "int64"));
  const label = Sub(pair, Mul(place, constant([], classes, "int64")));
  const box = inside(Gather(Squeeze(boxesOf(distances, locations), [0]), place), height, width); // [K,4]

  const [count] = dims(score) as [number];
  const byClass = Mul(OneHot(label, classes, "float32", { axis: 0 }), score); // [C,K]
  const kept = NonMaxSuppression(Unsqueeze(box, [0]), Unsqueeze(byClass, [0]), {
    max: limits.maxDetections,
    iouThreshold: limits.nmsThreshold,
    scoreThreshold: limits.scoreThreshold,
  });
  const rows = Squeeze(Slice(kept, { starts: [2], ends: [3], axes: [1] }), [1]);
  const left = ScatterElements(Expand(constant([], 0), [count]), rows, Gather(score, rows)); // [K] 0 where dropped
  const [best, order] = TopK(left, Math.min(limits.maxDetections, count));
  const found = Squeeze(NonZero(Greater(best, 0)), [0]); // [n]
  const chosen = Gather(order, found);
  return { boxes: Gather(box, chosen), scores: Gather(best, found), labels: Gather(label, chosen) };
}

/** Boxes cut to the image. */
const inside = (boxes: Value, height: number, width: number): Value =>
  Min(Max(boxes, 0), constant([1, 4], [width, height, width, height]));
