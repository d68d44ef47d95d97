/** Resampling and boxes: what dense heads, detectors and segmenters do to maps. */
import { constant, constantOf, dims, int64s, type Dim, type Value } from "../onnx/graph.js";
import { zeros, type DType } from "../tensor.js";
import { apply, op } from "./op.js";
import { isNumber, sameDtypes } from "./infer.js";
import {
  Abs,
  Add,
  And,
  Cast,
  Clip,
  Div,
  Equal,
  Floor,
  GreaterOrEqual,
  LessOrEqual,
  Max,
  Mul,
  Relu,
  Sub,
} from "./elementwise.js";
import { MatMul, transposed } from "./contraction.js";
import {
  Concat,
  Expand,
  GatherElements,
  OneHot,
  Reshape,
  ScatterElements,
  shapeTaken,
  Split,
  Squeeze,
  Transpose,
  Unsqueeze,
} from "./movement.js";
import { ReduceMean, ReduceSum } from "./reduction.js";

export interface Resizing {
  mode?: "nearest" | "linear" | "cubic";
  /** Where output pixel i lies in the input; PyTorch's interpolate: asymmetric (nearest), half_pixel or align_corners (bilinear). */
  coordinate_transformation_mode?: "half_pixel" | "align_corners" | "asymmetric";
  /** How a position becomes a pixel in mode nearest; PyTorch's is floor. */
  nearest_mode?: "round_prefer_floor" | "round_prefer_ceil" | "floor" | "ceil";
  /** 1: the filter widens when shrinking, as in PIL (opset 18). */
  antialias?: 0 | 1;
  /** 1: weights of pixels beyond the border are 0 and the rest add up to 1, as in PIL; 0: the border is repeated. */
  exclude_outside?: 0 | 1;
  /** a of Keys' cubic: −0.5 in PIL, −0.75 in torch without antialiasing. */
  cubic_coeff_a?: number;
}
/** The shape to reach (numbers, or int64 known when the graph runs), or a factor for each axis. */
export type ResizeTo = { sizes: readonly number[] | Value } | { scales: readonly number[] };

/**
 * x [N,C,h,w] resampled over its last two axes: y = R·x·Cᵀ, with rows of R and C the weights of the source pixels.
 * dx = Rᵀ·g·C
 */
export const Resize = (
  x: Value,
  to: ResizeTo,
  {
    mode = "nearest",
    coordinate_transformation_mode = "half_pixel",
    nearest_mode = "floor",
    antialias,
    exclude_outside,
    cubic_coeff_a = -0.75,
  }: Resizing = {},
): Value => {
  const sizes = "sizes" in to ? (Array.isArray(to.sizes) ? int64s(to.sizes as number[]) : (to.sizes as Value)) : null;
  const scales = "scales" in to ? constant([to.scales.length], to.scales) : null;
  const attributes = {
    mode,
    coordinate_transformation_mode,
    nearest_mode,
    antialias,
    exclude_outside,
    cubic_coeff_a: { float: cubic_coeff_a },
  };
  return apply(antialias ? antialiased : resize, sizes ? [x, null, null, sizes] : [x, null, scales], attributes)[0]!;
};
const resize = op("Resize", {
  infer: ([x], _, [, , scales, sizes]) => {
    if (x!.shape.length !== 4) throw new Error("needs an input [N,C,H,W]");
    const factors = scales && [...(scales.constant!.data as Float32Array)];
    const given = sizes?.constant ? [...sizes.constant.data].map(Number) : shapeTaken(sizes);
    const shape = x!.shape.map((d, i): Dim => {
      if (factors) return factors[i] === 1 ? d : isNumber(d) ? Math.floor(d * factors[i]!) : `⌊${d}*${factors[i]}⌋`;
      return given ? given[i]! : i < 2 ? d : `resized${i}`;
    });
    if (shape[0] !== x!.shape[0] || shape[1] !== x!.shape[1])
      throw new Error(`resizes H and W only, asked for [${shape.join(",")}]`);
    return [{ dtype: x!.dtype, shape }];
  },
  vjp: ([g], [x, , scales], _, attributes) => {
    if (attributes.mode === "cubic" || attributes.antialias)
      throw new Error(`Resize has no gradient in mode "cubic" or with antialias; nearest and linear have.`);
    const [rows, columns] = [2, 3].map((axis) => {
      const [from, to] = [x!.shape[axis] as number, g!.shape[axis] as number];
      const factor = scales ? Number(scales.constant!.data[axis]) : to / from;
      return resamplingMatrix(from, to, factor, attributes as Resizing, g!.dtype);
    }) as [Value, Value];
    return [MatMul(MatMul(transposed(rows), g!), columns), null, null, null];
  },
});

const antialiased = { ...resize, since: 18 };

/** [to, from]: the weights with which source pixels enter each output pixel. */
function resamplingMatrix(from: number, to: number, factor: number, r: Resizing, dtype: DType): Value {
  const matrix = zeros(dtype, [to, from]);
  const data = matrix.data as Float32Array;
  for (let i = 0; i < to; i++) {
    const at = sourcePosition(i, from, to, factor, r.coordinate_transformation_mode!);
    if (r.mode === "nearest") data[i * from + clamp(nearest(at, r.nearest_mode!), from)] = 1;
    else {
      const inside = clamp(at, from);
      const low = Math.floor(inside);
      data[i * from + low]! += 1 - (inside - low);
      if (low + 1 < from) data[i * from + low + 1]! += inside - low;
    }
  }
  return constantOf(matrix);
}
const clamp = (i: number, length: number): number => Math.min(Math.max(i, 0), length - 1);

function sourcePosition(
  i: number,
  from: number,
  to: number,
  factor: number,
  mode: NonNullable<Resizing["coordinate_transformation_mode"]>,
): number {
  switch (mode) {
    case "half_pixel":
      return (i + 0.5) / factor - 0.5;
    case "align_corners":
      return to === 1 ? 0 : (i * (from - 1)) / (to - 1);
    case "asymmetric":
      return i / factor;
    default:
      return mode satisfies never;
  }
}

function nearest(at: number, mode: NonNullable<Resizing["nearest_mode"]>): number {
  switch (mode) {
    case "floor":
      return Math.floor(at);
    case "ceil":
      return Math.ceil(at);
    case "round_prefer_floor":
      return Math.ceil(at - 0.5);
    case "round_prefer_ceil":
      return Math.floor(at + 0.5);
    default:
      return mode satisfies never;
  }
}

export interface GridSampling {
  mode?: "bilinear" | "nearest" | "bicubic";
  padding_mode?: "zeros" | "border" | "reflection";
  align_corners?: 0 | 1;
}
/**
 * y[n,c,i,j] = x[n,c] read at the point grid[n,i,j] = (across, down), −1…1 from edge to edge: x [N,C,H,W], grid [N,h,w,2].
 * Bilinear: y = Σ w(corner)·x(corner) over the four pixels around the point.
 * dx = g·w(corner) added at the corners; dgrid = Σ_c g·x(corner)·∂w(corner), times the pixels per unit of grid
 */
export const GridSample = (
  x: Value,
  grid: Value,
  { mode = "bilinear", padding_mode = "zeros", align_corners = 0 }: GridSampling = {},
): Value => apply(gridSample, [x, grid], { mode, padding_mode, align_corners })[0]!;
const gridSample = op("GridSample", {
  infer: ([x, grid]) => {
    if (x!.shape.length !== 4 || grid!.shape.length !== 4 || grid!.shape[3] !== 2)
      throw new Error("needs an input [N,C,H,W] and a grid [N,h,w,2]");
    return [{ dtype: x!.dtype, shape: [...x!.shape.slice(0, 2), ...grid!.shape.slice(1, 3)] }];
  },
  vjp: ([g], [x, grid], _, attributes) => {
    const { mode, padding_mode, align_corners } = attributes as GridSampling;
    if (mode !== "bilinear" || padding_mode === "reflection")
      throw new Error(
        `GridSample has no gradient in mode "${mode}" with padding "${padding_mode}"; bilinear with zeros or border has.`,
      );
    const [n, c, h, w] = dims(x!) as [number, number, number, number];
    const points = (g!.shape[2] as number) * (g!.shape[3] as number);
    const flat = Reshape(x!, [n, c, h * w]);
    const gs = Reshape(g!, [n, c, points]);
    const [across, down] = Split(Reshape(grid!, [n, points, 2]), [1, 1], { axis: 2 }).map((v, i) =>
      axisWeights(Squeeze(v, [2]), i ? h : w, align_corners === 1, padding_mode === "border"),
    ) as [AxisWeights, AxisWeights];
    const corners = down.sides.flatMap((v) => across.sides.map((u) => ({ u, v })));
    const everyChannel = (t: Value): Value => Expand(Unsqueeze(t, [1]), [n, c, points]);
    const at = corners.map(({ u, v }) => everyChannel(Add(Mul(v.pixel, w), u.pixel)));
    const shares = corners.map(({ u, v }) => Mul(gs, Unsqueeze(Mul(u.weight, v.weight), [1])));
    const dx = ScatterElements(
      Expand(constant([], 0, g!.dtype), [n, c, h * w]),
      Concat(at, { axis: 2 }),
      Concat(shares, { axis: 2 }),
      { axis: 2, reduction: "add" },
    );
    // Σ_c g·x at each corner [N,L]
    const pulls = at.map((i) => ReduceSum(Mul(gs, GatherElements(flat, i, { axis: 2 })), { axes: [1], keepdims: 0 }));
    const total = (weights: Value[]): Value => pulls.map((p, k) => Mul(p, weights[k]!)).reduce((a, b) => Add(a, b));
    const dgrid = [
      Mul(total(corners.map(({ u, v }) => Mul(u.slope, v.weight))), across.perUnit),
      Mul(total(corners.map(({ u, v }) => Mul(u.weight, v.slope))), down.perUnit),
    ].map((d) => Unsqueeze(d, [2]));
    return [Reshape(dx, [n, c, h, w]), Reshape(Concat(dgrid, { axis: 2 }), grid!.shape as number[])];
  },
});

interface AxisWeights {
  /** The pixels before and after each point [N,L]: index (int64), weight, and the weight's slope along the axis. */
  sides: { pixel: Value; weight: Value; slope: Value }[];
  /** Pixels per unit of grid; 0 where the border has clipped the point. */
  perUnit: Value | number;
}
/** Linear interpolation along one axis of `length` pixels at grid coordinates t [N,L]. */
function axisWeights(t: Value, length: number, alignCorners: boolean, border: boolean): AxisWeights {
  const scale = (alignCorners ? length - 1 : length) / 2;
  const free = Add(Mul(t, scale), (length - 1) / 2);
  const at = border ? Clip(free, 0, length - 1) : free;
  const low = Floor(at);
  const part = Sub(at, low);
  const side = (place: Value, weight: Value, slope: number) => {
    const there = Cast(And(GreaterOrEqual(place, 0), LessOrEqual(place, length - 1)), t.dtype);
    return {
      pixel: Cast(Clip(place, 0, length - 1), "int64"),
      weight: Mul(weight, there),
      slope: Mul(there, slope),
    };
  };
  const inside = Cast(And(GreaterOrEqual(free, 0), LessOrEqual(free, length - 1)), t.dtype);
  return {
    sides: [side(low, Sub(1, part), -1), side(Add(low, 1), part, 1)],
    perUnit: border ? Mul(inside, scale) : scale,
  };
}

export interface RoiAligning {
  output_height: number;
  output_width: number;
  /** Samples a side of each cell; 0: as many as the cell has pixels (no gradient then). */
  sampling_ratio?: number;
  /** Map pixels per pixel of the rois' coordinates: 1/stride. */
  spatial_scale?: number;
  mode?: "avg" | "max";
  /** half_pixel is torchvision's aligned=True. */
  coordinate_transformation_mode?: "half_pixel" | "output_half_pixel";
}
/**
 * Cells of boxes (Mask R-CNN, He et al., 2017): x [N,C,H,W], rois [R,4] as x1, y1, x2, y2, batch [R] int64 → [R,C,h,w].
 * Mean mode is separable: y_r = A_r·x·B_rᵀ with hat weights max(0, 1 − |position − pixel|) averaged over a cell's samples.
 * dx[n] = Σ_{r of n} A_rᵀ·g_r·B_r; the boxes have no gradient, as in torchvision
 */
export const RoiAlign = (x: Value, rois: Value, batch: Value, roiAligning: RoiAligning): Value => {
  const { sampling_ratio = 0, spatial_scale = 1, mode = "avg", ...rest } = roiAligning;
  const { coordinate_transformation_mode = "half_pixel", output_height, output_width } = rest;
  return apply(roiAlign, [x, rois, batch], {
    output_height,
    output_width,
    sampling_ratio,
    spatial_scale: { float: spatial_scale },
    mode,
    coordinate_transformation_mode,
  })[0]!;
};
const roiAlign = op("RoiAlign", {
  infer: ([x, rois], { output_height, output_width }) => {
    if (x!.shape.length !== 4 || rois!.shape.length !== 2 || rois!.shape[1] !== 4)
      throw new Error("needs an input [N,C,H,W] and rois [R,4]");
    return [
      {
        dtype: sameDtypes([x!, rois!]),
        shape: [rois!.shape[0]!, x!.shape[1]!, output_height as number, output_width as number],
      },
    ];
  },
  vjp: ([g], [x, rois, batch], _, attributes) => {
    const { mode, sampling_ratio: samples } = attributes as unknown as Required<RoiAligning>;
    if (mode !== "avg" || !samples)
      throw new Error(`RoiAlign has a gradient in mode "avg" with a sampling_ratio above 0 only.`);
    const scale = (attributes.spatial_scale as { float: number }).float;
    const half = attributes.coordinate_transformation_mode === "half_pixel";
    const [n, c, h, w] = dims(x!) as [number, number, number, number];
    const [count, , rows, columns] = dims(g!) as [number, number, number, number];
    const [x1, y1, x2, y2] = Split(Sub(Mul(rois!, scale), half ? 0.5 : 0), [1, 1, 1, 1], { axis: 1 });
    const cells = (from: Value, to: Value, pieces: number, length: number): Value =>
      cellWeights(from, half ? Sub(to, from) : Max(Sub(to, from), 1), pieces, samples, length);
    const a = cells(y1!, y2!, rows, h); // [R,rows,H]
    const b = cells(x1!, x2!, columns, w); // [R,columns,W]
    // Σ over the boxes of an image as one product: [N, H, R·rows] × [R·rows, C·W]
    const owner = Unsqueeze(OneHot(batch!, n, g!.dtype, { axis: 0 }), [2, 3]); // [N,R,1,1]
    const owned = Reshape(Mul(owner, Unsqueeze(a, [0])), [n, count * rows, h]);
    const spread = MatMul(g!, Unsqueeze(b, [1])); // [R,C,rows,W]
    const lines = Reshape(Transpose(spread, { perm: [0, 2, 1, 3] }), [count * rows, c * w]);
    const dx = Reshape(MatMul(transposed(owned), lines), [n, h, c, w]);
    return [Transpose(dx, { perm: [0, 2, 1, 3] }), null, null];
  },
});

/** A box's side from `from` [R,1], `extent` [R,1] long, cut into cells → each cell's weights on the pixels [R,cells,length]. */
function cellWeights(from: Value, extent: Value, cells: number, samples: number, length: number): Value {
  const middles = Array.from({ length: cells * samples }, (_, i) => (i + 0.5) / (cells * samples));
  const at = Add(from, Mul(extent, constant([1, middles.length], middles, from.dtype))); // [R,cells·samples]
  const near = Cast(And(GreaterOrEqual(at, -1), LessOrEqual(at, length)), at.dtype);
  const pixels = constant(
    [1, 1, length],
    Array.from({ length }, (_, i) => i),
    at.dtype,
  );
  const hat = Relu(Sub(1, Abs(Sub(Unsqueeze(Clip(at, 0, length - 1), [2]), pixels))));
  const weights = Reshape(Mul(hat, Unsqueeze(near, [2])), [from.shape[0] as number, cells, samples, length]);
  return ReduceMean(weights, { axes: [2], keepdims: 0 });
}

export interface Suppression {
  /** Boxes kept of each class and image at most. */
  max: number;
  iouThreshold: number;
  /** Boxes that score no more than this are left out. */
  scoreThreshold: number;
}
/** Greedy suppression: boxes [B,N,4] as corners, scores [B,C,N] → (image, class, box) of the boxes kept, int64 [n,3]. */
export const NonMaxSuppression = (
  boxes: Value,
  scores: Value,
  { max, iouThreshold, scoreThreshold }: Suppression,
): Value =>
  apply(nonMaxSuppression, [
    boxes,
    scores,
    int64s([max]),
    constant([1], [iouThreshold]),
    constant([1], [scoreThreshold]),
  ])[0]!;
const nonMaxSuppression = op("NonMaxSuppression", {
  infer: ([boxes, scores]) => {
    if (boxes!.shape.length !== 3 || boxes!.shape[2] !== 4 || scores!.shape.length !== 3)
      throw new Error("needs boxes [B,N,4] and scores [B,C,N]");
    return [{ dtype: "int64", shape: ["kept", 3] }];
  },
  vjp: "none",
});

/** Where x is not 0: int64 [rank, n], one column a place. Piecewise constant. */
export const NonZero = (x: Value): Value => apply(nonZero, [x])[0]!;
const nonZero = op("NonZero", {
  infer: ([x]) => [{ dtype: "int64", shape: [x!.shape.length, "found"] }],
  vjp: "zero",
});

/** Largest over H and W: [N,C,H,W] → [N,C,1,1]    g shared equally by the places that reach it */
export const GlobalMaxPool = (x: Value): Value => apply(globalMaxPool, [x])[0]!;
const globalMaxPool = op("GlobalMaxPool", {
  infer: ([x]) => [{ dtype: x!.dtype, shape: [...x!.shape.slice(0, 2), 1, 1] }],
  vjp: ([g], [x], [y]) => {
    const hit = Cast(Equal(x!, y!), g!.dtype);
    return [Mul(hit, Div(g!, ReduceSum(hit, { axes: [2, 3] })))];
  },
});
