/**
 * Augmentation: what is drawn (`draw`, pure), and the graph that does it to one image (`augmentModel`).
 *
 * A view is crop and resize (two products with rows of filter weights; a flip mirrors one of them), then stages in order, then
 * normalisation. `pixels: "float"` is torchvision on float tensors in [0,1]; `"pil"` rounds to 0…255 after every stage as PIL does.
 */
import { constant, input, type Value } from "../src/onnx/graph.js";
import { toModel } from "../src/onnx/model.js";
import {
  Add,
  Cast,
  Clip,
  Div,
  Equal,
  Floor,
  Gemm,
  GreaterOrEqual,
  MatMul,
  Max,
  Min,
  Mul,
  ReduceMax,
  ReduceMean,
  ReduceMin,
  Reshape,
  Split,
  Sub,
  Where,
} from "../src/ops/index.js";
import type { Random } from "../src/random.js";
import { tensor, zeros, type DType, type Tensor, type Tensors } from "../src/tensor.js";
import type { Pixels, ViewSpec } from "../src/views.js";

// ---------------------------------------------------------------- draw

/** Pixels of the source image. */
export interface Box {
  top: number;
  left: number;
  height: number;
  width: number;
}
export type Stage =
  | { op: "brightness" | "contrast" | "saturation"; factor: number }
  /** turns, −0.5 … 0.5 */
  | { op: "hue"; shift: number }
  | { op: "grey" }
  /** kernel: torchvision's blur with so many taps, in either pixels; absent: PIL's under "pil", ±3σ under "float" */
  | { op: "blur"; sigma: number; kernel?: number }
  /** values ≥ threshold (in 0–1) are inverted */
  | { op: "solarize"; threshold: number };
export interface Draw {
  crop: Box;
  flip: boolean;
  stages: Stage[];
}

/** torchvision RandomResizedCrop.get_params: ten tries, then the largest centred box of an allowed ratio. */
export function drawCrop(
  r: Random,
  width: number,
  height: number,
  { scale, ratio = [3 / 4, 4 / 3] }: ViewSpec["crop"],
): Box {
  for (let attempt = 0; attempt < 10; attempt++) {
    const area = width * height * r.uniform(...scale);
    const aspect = Math.exp(r.uniform(Math.log(ratio[0]), Math.log(ratio[1])));
    const w = Math.round(Math.sqrt(area * aspect));
    const h = Math.round(Math.sqrt(area / aspect));
    if (0 < w && w <= width && 0 < h && h <= height)
      return { top: r.integer(height - h + 1), left: r.integer(width - w + 1), height: h, width: w };
  }
  const aspect = Math.min(Math.max(width / height, ratio[0]), ratio[1]);
  const w = Math.min(width, Math.round(height * aspect));
  const h = Math.min(height, Math.round(width / aspect));
  return { top: Math.floor((height - h) / 2), left: Math.floor((width - w) / 2), height: h, width: w };
}

/** Everything random about one view of an image of this size. */
export function draw(r: Random, { width, height }: { width: number; height: number }, view: ViewSpec): Draw {
  const happens = (p = 0) => r.uniform() < p;
  const around = (half: number) => r.uniform(Math.max(0, 1 - half), 1 + half);
  const crop = drawCrop(r, width, height, view.crop);
  const flip = happens(view.flip ?? 0.5);
  const stages: Stage[] = [];
  const { jitter, grey, blur, solarize } = view;
  if (jitter && happens(jitter.p)) {
    const four: Stage[] = [
      { op: "brightness", factor: around(jitter.brightness) },
      { op: "contrast", factor: around(jitter.contrast) },
      { op: "saturation", factor: around(jitter.saturation) },
      { op: "hue", shift: r.uniform(-jitter.hue, jitter.hue) },
    ];
    const wanted = [jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue];
    for (const i of r.permutation(4)) if (wanted[i]) stages.push(four[i]!);
  }
  if (happens(grey)) stages.push({ op: "grey" });
  if (blur && happens(blur.p)) stages.push({ op: "blur", sigma: r.uniform(...blur.sigma) });
  if (solarize && happens(solarize.p)) stages.push({ op: "solarize", threshold: solarize.threshold ?? 0.5 });
  return { crop, flip, stages };
}

/** The unaugmented view: a centred square of `size`/`resize` of the short side. */
export function centred({ width, height }: { width: number; height: number }, size: number, resize: number): Draw {
  const side = Math.max(1, Math.round((Math.min(width, height) * size) / resize));
  const crop = {
    top: Math.floor((height - side) / 2),
    left: Math.floor((width - side) / 2),
    height: side,
    width: side,
  };
  return { crop, flip: false, stages: [] };
}

// ---------------------------------------------------------------- weights

/** Keys' cubic; a = −0.5 in PIL and antialiased torch, −0.75 in torch without antialiasing */
export const cubic =
  (a: number) =>
  (x: number): number => {
    const t = Math.abs(x);
    if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
    return t < 2 ? a * (((t - 5) * t + 8) * t - 4) : 0;
  };
const triangle = (x: number): number => Math.max(0, 1 - Math.abs(x));

/** Visits the filter weights of each output of a resize from n to `size`: normalised, cut at the borders. */
function resampled(
  n: number,
  size: number,
  { interpolation, antialias = true }: Filter,
  visit: (out: number, from: number, w: number) => void,
): void {
  if (!antialias) return pointwise(n, size, interpolation, visit);
  const scale = n / size;
  const stretch = Math.max(scale, 1);
  const [filter, radius] = interpolation === "bicubic" ? [cubic(-0.5), 2] : [triangle, 1];
  const support = radius * stretch;
  const weights: number[] = [];
  for (let i = 0; i < size; i++) {
    const centre = scale * (i + 0.5);
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(n, Math.trunc(centre + support + 0.5));
    let sum = 0;
    for (let j = first; j < last; j++) sum += weights[j - first] = filter((j - centre + 0.5) / stretch);
    for (let j = first; j < last; j++) visit(i, j, weights[j - first]! / sum);
  }
}

type Filter = Pick<ViewSpec["crop"], "interpolation" | "antialias">;

/** torch's interpolate without antialiasing: the filter at its own width around each centre, edges repeated. */
function pointwise(
  n: number,
  size: number,
  interpolation: Filter["interpolation"],
  visit: (out: number, from: number, w: number) => void,
): void {
  const [filter, radius] = interpolation === "bicubic" ? [cubic(-0.75), 2] : [triangle, 1];
  for (let i = 0; i < size; i++) {
    const raw = ((i + 0.5) * n) / size - 0.5;
    const centre = interpolation === "bicubic" ? raw : Math.max(0, raw);
    const first = Math.floor(centre) - radius + 1;
    for (let j = first; j < first + 2 * radius; j++) visit(i, Math.min(Math.max(j, 0), n - 1), filter(j - centre));
  }
}

/** A [size, n] (or transposed, [n, size]) matrix of resize weights. */
function resizeMatrix(
  n: number,
  size: number,
  how: Filter,
  layout: "rows" | "columns",
  flip: boolean,
  factor: number,
): Tensor {
  const t = zeros("float32", layout === "rows" ? [size, n] : [n, size]);
  const [out, from] = layout === "rows" ? [n, 1] : [1, size];
  resampled(n, size, how, (i, j, w) => (t.data[(flip ? size - 1 - i : i) * out + j * from]! += w * factor));
  return t;
}

const reflected = (i: number, n: number): number => (n === 1 ? 0 : i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i);

/** torchvision gaussian_blur along one axis as a matrix [n, n], reflect padding; kernel default covers ±3σ. */
export function blurMatrix(
  n: number,
  sigma: number,
  kernel = 2 * Math.max(1, Math.ceil(3 * sigma)) + 1,
): Tensor<"float32"> {
  const radius = Math.min((kernel - 1) / 2, n - 1);
  const weights = Array.from({ length: 2 * radius + 1 }, (_, i) =>
    Math.exp(-((i - radius) ** 2) / (2 * sigma * sigma)),
  );
  const sum = weights.reduce((a, b) => a + b, 0);
  const t = zeros("float32", [n, n]);
  for (let i = 0; i < n; i++)
    for (let k = -radius; k <= radius; k++) t.data[i * n + reflected(i + k, n)]! += weights[k + radius]! / sum;
  return t;
}

/** Pillow's box blur of real radius along one axis as a matrix [n, n]: whole weights inside, a fraction at both ends, edges repeated. */
export function boxMatrix(n: number, radius: number): Tensor<"float64"> {
  const whole = Math.floor(radius);
  const w = Math.floor(Math.fround(2 ** 24 / Math.fround(Math.fround(radius) * 2 + 1))); // C's float, then an integer
  const edge = Math.floor((2 ** 24 - (whole * 2 + 1) * w) / 2);
  const t = zeros("float64", [n, n]);
  const clamp = (i: number) => Math.min(Math.max(i, 0), n - 1);
  for (let i = 0; i < n; i++)
    for (let k = -whole - 1; k <= whole + 1; k++)
      t.data[i * n + clamp(i + k)]! += (Math.abs(k) > whole ? edge : w) / 2 ** 24;
  return t;
}

/** Radius of each of Pillow's three box passes for a Gaussian of deviation σ (ImagingGaussianBlur). */
export function boxRadius(sigma: number, passes = 3): number {
  const length = Math.sqrt((12 * sigma * sigma) / passes + 1);
  const whole = Math.floor((length - 1) / 2);
  const a = (2 * whole + 1) * (whole * (whole + 1) - (3 * sigma * sigma) / passes);
  return whole + a / (6 * ((sigma * sigma) / passes - (whole + 1) ** 2));
}

// ---------------------------------------------------------------- graph

/** What decides a graph: the kinds of its stages. brightness, saturation and grey are one kind, a colour matrix. */
type Kind = "colour" | "contrast" | "hue" | "blur" | "gaussian" | "solarize";
function kindOf(s: Stage): Kind {
  if (s.op === "blur") return s.kernel === undefined ? "blur" : "gaussian";
  return s.op === "brightness" || s.op === "saturation" || s.op === "grey" ? "colour" : s.op;
}

/** Names a graph: views with equal keys share a session. */
export const keyOf = (d: Draw, view: ViewSpec, pixels: Pixels): string =>
  [pixels, view.size, view.normalize ? JSON.stringify(view.normalize) : "", ...d.stages.map(kindOf)].join(" ");

/** Rec. 601 luma as torchvision weighs floats, and as PIL weighs 8-bit values (over 65536) */
const luma = { float: [0.2989, 0.587, 0.114], pil: [19595, 38470, 7471] } as const;
const toLevels = (x: Value): Value => Floor(Add(Clip(x, 0, 255), 0.5));

/**
 * One image to one view. Inputs: `image` uint8 [3,h,w] (the crop), `columns` [w,S] and `rows` [S,h] of resize weights, and per stage
 * i what `feedsOf` gives. Output: `view` float32 [3,S,S].
 */
export function augmentModel(d: Draw, view: ViewSpec, pixels: Pixels): Uint8Array {
  const s = view.size;
  const image = input("image", "uint8", [3, "h", "w"]);
  const columns = input("columns", "float32", ["w", s]);
  const rows = input("rows", "float32", [s, "h"]);
  const inputs = [image, columns, rows];
  const extra: Extra = (name, shape, dtype = "float32") => {
    const v = input(name, dtype, shape);
    inputs.push(v);
    return v;
  };
  const across = MatMul(Cast(image, "float32"), columns); // [3,h,S], PIL's order: width first
  let x = pixels === "pil" ? toLevels(MatMul(rows, toLevels(across))) : MatMul(rows, across); // [3,S,S]
  const apply = pixels === "pil" ? pilStage : floatStage;
  d.stages.forEach(
    (stage, i) => (x = apply(kindOf(stage), x, s, (name, shape, dtype) => extra(`${name}${i}`, shape, dtype))),
  );
  if (pixels === "pil") x = Mul(x, 1 / 255);
  if (view.normalize) {
    const { mean, std } = view.normalize;
    x = Mul(
      Sub(x, constant([3, 1, 1], [...mean])),
      constant(
        [3, 1, 1],
        std.map((v) => 1 / v),
      ),
    );
  }
  return toModel({ name: "augment", inputs, outputs: { view: x } });
}

type Extra = (name: string, shape: number[], dtype?: DType) => Value;

/** x in [0,1] */
function floatStage(kind: Kind, x: Value, s: number, extra: Extra): Value {
  const flat = (v: Value) => Reshape(v, [3, s * s]);
  const square = (v: Value) => Reshape(v, [3, s, s]);
  switch (kind) {
    case "colour": // y = M·x per pixel
      return Clip(square(MatMul(extra("matrix", [3, 3]), flat(x))), 0, 1);
    case "contrast": {
      // y = c·x + (1 − c)·mean(luma x)
      const factor = extra("factor", [1]);
      const means = ReduceMean(flat(x), { axes: [1] }); // [3,1]
      const mean = MatMul(constant([1, 3], luma.float), means); // [1,1]
      return Clip(Add(Mul(x, factor), Mul(mean, Sub(1, factor))), 0, 1);
    }
    case "hue": {
      const { sextant, chroma, highest } = hueOf(x);
      return fromHue(Add(sextant, Mul(extra("shift", [1]), 6)), chroma, highest);
    }
    case "blur":
    case "gaussian":
      return gaussian(x, s, extra);
    case "solarize":
      return Where(GreaterOrEqual(x, extra("threshold", [1])), Sub(1, x), x);
    default:
      return kind satisfies never;
  }
}

/** Rows, then columns, of Gaussian weights. */
const gaussian = (x: Value, s: number, extra: Extra): Value =>
  MatMul(MatMul(extra("blur", [s, s]), x), extra("blurColumns", [s, s]));

/** Hue in sixths of a turn [1,S,S] from r, g, b, with chroma = max − min and max. */
function hueOf(x: Value): { sextant: Value; chroma: Value; highest: Value } {
  const [r, g, b] = Split(x, [1, 1, 1], { axis: 0 }) as [Value, Value, Value];
  const highest = ReduceMax(x, { axes: [0] });
  const chroma = Sub(highest, ReduceMin(x, { axes: [0] }));
  const divisor = Where(Equal(chroma, 0), 1, chroma);
  const rest = Where(Equal(g, highest), Add(Div(Sub(b, r), divisor), 2), Add(Div(Sub(r, g), divisor), 4));
  const sextant = Where(Equal(r, highest), Div(Sub(g, b), divisor), rest);
  return { sextant, chroma, highest };
}

/** v − chroma·clip(min(k, 4 − k), 0, 1) with k = (n + 6h) mod 6, n = 5, 3, 1 for r, g, b */
function fromHue(sextant: Value, chroma: Value, highest: Value): Value {
  const turned = Add(sextant, constant([3, 1, 1], [5, 3, 1], sextant.dtype)); // [3,S,S]
  const k = Sub(turned, Mul(Floor(Mul(turned, 1 / 6)), 6));
  return Sub(highest, Mul(chroma, Clip(Min(k, Sub(4, k)), 0, 1)));
}

/** x in 0…255, whole */
function pilStage(kind: Kind, x: Value, s: number, extra: Extra): Value {
  switch (kind) {
    case "colour": {
      // Image.blend(degenerate, image, factor), truncated; degenerate = share of the luma image
      const factor = extra("factor", [1]);
      const degenerate = Mul(lumaLevels(x, s), extra("share", [1]));
      return Floor(Clip(Add(degenerate, Mul(Sub(x, degenerate), factor)), 0, 255));
    }
    case "contrast": {
      const mean = Floor(Add(ReduceMean(lumaLevels(x, s), { axes: [0, 1, 2] }), 0.5));
      return Floor(Clip(Add(mean, Mul(Sub(x, mean), extra("factor", [1]))), 0, 255));
    }
    case "hue":
      return pilHue(x, extra("shift", [1]));
    case "blur": {
      // three passes along each axis, rounded after each; in float64, for ties are decided by the 24th bit of the weights
      const m = extra("box", [s, s], "float64");
      const t = extra("boxColumns", [s, s], "float64");
      let y = Cast(x, "float64");
      for (let pass = 0; pass < 3; pass++) y = Floor(Add(MatMul(y, t), 0.5));
      for (let pass = 0; pass < 3; pass++) y = Floor(Add(MatMul(m, y), 0.5));
      return Cast(y, "float32");
    }
    case "gaussian":
      return toLevels(gaussian(x, s, extra));
    case "solarize":
      return Where(GreaterOrEqual(x, Mul(extra("threshold", [1]), 256)), Sub(255, x), x);
    default:
      return kind satisfies never;
  }
}

/** convert("L"): (19595 r + 38470 g + 7471 b + 0x8000) >> 16, exact in float32; [1,S,S] */
const lumaLevels = (x: Value, s: number): Value => {
  const sum = Gemm(constant([1, 3], luma.pil), Reshape(x, [3, s * s]));
  return Reshape(Floor(Mul(Add(sum, 0x8000), 1 / 65536)), [1, s, s]);
};

/** Through PIL's 8-bit HSV (Pillow Convert.c): hue and saturation truncated to levels, the hue shifted by whole levels and wrapped. */
function pilHue(x: Value, levels: Value): Value {
  const [r, g, b] = Split(x, [1, 1, 1], { axis: 0 }) as [Value, Value, Value];
  const highest = ReduceMax(x, { axes: [0] });
  const chroma = Sub(highest, ReduceMin(x, { axes: [0] }));
  const [rc, gc, bc] = [r, g, b].map((c) => Cast(Div(Sub(highest, c), Max(chroma, 1)), "float64")) as [
    Value,
    Value,
    Value,
  ];
  const rest = Where(Equal(g, highest), Sub(Add(rc, 2), bc), Sub(Add(gc, 4), rc));
  // C's double arithmetic, kept in a float in between
  const sextant = Cast(Cast(Where(Equal(r, highest), Sub(bc, gc), rest), "float32"), "float64");
  const turns = Add(Div(sextant, 6), 1);
  const level = (v: Value) => Floor(Mul(Cast(v, "float64"), 255));
  const hue = level(Cast(Sub(turns, Floor(turns)), "float32"));
  const shifted = Add(hue, Cast(levels, "float64"));
  const wrapped = Sub(shifted, Mul(Floor(Div(shifted, 256)), 256));
  const saturation = level(Div(chroma, Max(highest, 1)));
  const value = Cast(highest, "float64");
  const share = Div(saturation, 255);
  return Cast(Floor(Add(fromHue(Div(Mul(wrapped, 6), 255), Mul(value, share), value), 0.5)), "float32");
}

const one = (v: number): Tensor => tensor("float32", [1], [v]);

/** The feeds of augmentModel but `image`. */
export function feedsOf(d: Draw, view: ViewSpec, pixels: Pixels): Tensors {
  const { crop } = d;
  const how = view.crop;
  const feeds: Tensors = {
    columns: resizeMatrix(crop.width, view.size, how, "columns", d.flip, pixels === "float" ? 1 / 255 : 1),
    rows: resizeMatrix(crop.height, view.size, how, "rows", false, 1),
  };
  d.stages.forEach((stage, i) => {
    for (const [name, t] of Object.entries((pixels === "pil" ? pilFeeds : floatFeeds)(stage, view.size)))
      feeds[`${name}${i}`] = t;
  });
  return feeds;
}

function floatFeeds(s: Stage, size: number): Tensors {
  switch (s.op) {
    case "brightness":
      return { matrix: colourMatrix(s.factor, 0) };
    case "saturation":
      return { matrix: colourMatrix(s.factor, 1) };
    case "grey":
      return { matrix: colourMatrix(0, 1) };
    case "contrast":
      return { factor: one(s.factor) };
    case "hue":
      return { shift: one(s.shift) };
    case "blur":
      return gaussianFeeds(s, size);
    case "solarize":
      return { threshold: one(s.threshold) };
    default:
      return s satisfies never;
  }
}

function gaussianFeeds({ sigma, kernel }: { sigma: number; kernel?: number }, size: number): Tensors {
  const blur = blurMatrix(size, sigma, kernel);
  return { blur, blurColumns: transposedMatrix(blur) };
}

/** factor·x + (1 − factor)·share·luma(x) as a matrix over r, g, b */
const colourMatrix = (factor: number, share: number): Tensor =>
  tensor(
    "float32",
    [3, 3],
    Array.from({ length: 9 }, (_, i) => (i % 4 === 0 ? factor : 0) + (1 - factor) * share * luma.float[i % 3]!),
  );

function pilFeeds(s: Stage, size: number): Tensors {
  switch (s.op) {
    case "brightness":
      return { factor: one(s.factor), share: one(0) };
    case "saturation":
      return { factor: one(s.factor), share: one(1) };
    case "grey":
      return { factor: one(0), share: one(1) };
    case "contrast":
      return { factor: one(s.factor) };
    case "hue":
      return { shift: one(((Math.trunc(s.shift * 255) % 256) + 256) % 256) };
    case "blur": {
      if (s.kernel !== undefined) return gaussianFeeds(s, size);
      const box = boxMatrix(size, boxRadius(s.sigma));
      return { box, boxColumns: transposedMatrix(box) };
    }
    case "solarize":
      return { threshold: one(s.threshold) };
    default:
      return s satisfies never;
  }
}

function transposedMatrix(t: Tensor<"float32"> | Tensor<"float64">): Tensor {
  const n = t.shape[0]!;
  const out = zeros(t.dtype, [n, n]);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) out.data[j * n + i] = t.data[i * n + j]!;
  return out;
}
