/** Where a dense detector looks: one location a cell of each level, as torchvision's AnchorGenerator places them. */
import { constant, dims, type Value } from "../../src/onnx/graph.js";
import { Add, Concat, Div, Mul, Sub } from "../../src/ops/index.js";

export interface Locations {
  /** Cells of each level. */
  counts: readonly number[];
  /** [A,2] x, y in pixels: the upper left corner of each cell, as in torchvision (FCOS' own code takes its middle). */
  centres: Value;
  /** [A,1] the level's unit of length in pixels: 8, 16, 32, … where the backbone's C3 has stride 8 */
  units: Value;
  /** [A,1] pixels: a level answers for boxes whose farthest side is between these. */
  nearest: Value;
  farthest: Value;
}

/** The locations of a pyramid over an image of height × width pixels. */
export function locationsOf(pyramid: readonly Value[], height: number, width: number): Locations {
  const finest = 2 ** Math.round(Math.log2(height / dims(pyramid[0]!)[2]!));
  const levels = pyramid.map((p, i) => {
    const [, , h, w] = dims(p) as [number, number, number, number];
    const [down, across] = [Math.floor(height / h), Math.floor(width / w)];
    const centres = Array.from({ length: h * w }, (_, k) => [(k % w) * across, Math.floor(k / w) * down]);
    const unit = finest * 2 ** i;
    return { centres, unit, from: i ? 4 * unit : 0, to: i < pyramid.length - 1 ? 8 * unit : Infinity };
  });
  const column = (of: (level: (typeof levels)[number]) => number): Value => {
    const values = levels.flatMap((l) => l.centres.map(() => of(l)));
    return constant([values.length, 1], values);
  };
  return {
    counts: levels.map((l) => l.centres.length),
    centres: constant(
      [levels.reduce((n, l) => n + l.centres.length, 0), 2],
      levels.flatMap((l) => l.centres.flat()),
    ),
    units: column((l) => l.unit),
    nearest: column((l) => l.from),
    farthest: column((l) => l.to),
  };
}

/** distances [B,A,4] in units, to the left, upper, right and lower side → boxes [B,A,4] as x1, y1, x2, y2 in pixels */
export const boxesOf = (distances: Value, { centres, units }: Locations): Value =>
  Add(Concat([centres, centres], { axis: 1 }), Mul(distances, Mul(units, constant([1, 4], [-1, -1, 1, 1]))));

/** The reverse: boxes [B,A,4] → distances [B,A,4], below 0 where a location lies outside its box */
export const distancesOf = (boxes: Value, { centres, units }: Locations): Value =>
  Div(Mul(Sub(boxes, Concat([centres, centres], { axis: 1 })), constant([1, 4], [-1, -1, 1, 1])), units);
