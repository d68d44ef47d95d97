/** Which object each location answers for: torchvision's FCOS, with static shapes. */
import { constant, dims, type Value } from "../../src/onnx/graph.js";
import {
  Abs,
  Add,
  And,
  ArgMax,
  Gather,
  Greater,
  GreaterOrEqual,
  Less,
  Max,
  Min,
  Mul,
  ReduceMax,
  Reshape,
  Split,
  Squeeze,
  Sub,
  Transpose,
  Unsqueeze,
  Where,
} from "../../src/ops/index.js";
import type { Locations } from "./locations.js";

/** Objects of a batch, M places an image, of which those not needed are empty. */
export interface Objects {
  /** [B,M,4] x1, y1, x2, y2 in pixels */
  boxes: Value;
  /** int64 [B,M] class, −1 for an empty place */
  labels: Value;
}

export interface Targets {
  /** int64 [B,A] the object's place among the M, −1 for background */
  object: Value;
  /** [B,A,4] its box; background has that of some place */
  boxes: Value;
  /** int64 [B,A] its class, −1 for background */
  labels: Value;
}

/** How far from an object's middle, in units of the level, a location may answer for it. */
const radius = 1.5;
/** More than any area: of several objects the smallest wins by the largest difference to it. */
const largest = 1e8;

/**
 * A location at (x, y) of a level with unit u answers for a box when it is inside it, less than 1.5 u from its middle along both axes, and its
 * farthest side lies within the level's range; of several such boxes for the smallest, and of equal ones for the first.
 */
export function targetsOf(locations: Locations, { boxes, labels }: Objects): Targets {
  const none = constant([], -1, "int64");
  const [x, y] = Split(Unsqueeze(locations.centres, [0]), [1, 1], { axis: 2 }) as [Value, Value]; // [1,A,1]
  const [x1, y1, x2, y2] = Split(Transpose(boxes, { perm: [0, 2, 1] }), [1, 1, 1, 1], { axis: 1 }) as [
    Value,
    Value,
    Value,
    Value,
  ]; // [B,1,M]
  const astray = Max(Abs(Sub(x, Mul(Add(x1, x2), 0.5))), Abs(Sub(y, Mul(Add(y1, y2), 0.5)))); // [B,A,M]
  const [left, up, right, down] = [Sub(x, x1), Sub(y, y1), Sub(x2, x), Sub(y2, y)];
  const farthest = Max(Max(left, up), Max(right, down));
  const answers = [
    Less(astray, Mul(locations.units, radius)),
    Greater(Min(Min(left, up), Min(right, down)), 0),
    Greater(farthest, locations.nearest),
    Less(farthest, locations.farthest),
    GreaterOrEqual(Unsqueeze(labels, [1]), constant([], 0, "int64")),
  ].reduce((a, b) => And(a, b));
  const area = Mul(Sub(x2, x1), Sub(y2, y1));
  const rank = Where(answers, Sub(largest, area), 0);
  const best = ArgMax(rank, { axis: 2, keepdims: 0 }); // [B,A]
  const positive = Greater(ReduceMax(rank, { axes: [2], keepdims: 0 }), 0);
  return {
    object: Where(positive, best, none),
    boxes: chosen(boxes, best),
    labels: Where(positive, Squeeze(chosen(Unsqueeze(labels, [2]), best), [2]), none),
  };
}

/** Rows of v [B,M,K] at places [B,A] → [B,A,K] */
function chosen(v: Value, places: Value): Value {
  const [images, m, k] = dims(v) as [number, number, number];
  const first = constant(
    [images, 1],
    Array.from({ length: images }, (_, b) => b * m),
    "int64",
  );
  return Gather(Reshape(v, [images * m, k]), Add(places, first));
}
