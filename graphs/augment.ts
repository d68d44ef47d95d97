/**
 * Augmentation: what is drawn (`draw`, pure), and the graphs that do it to several images at once (`augmentation`).
 *
 * A view is a crop resized (image by image, for crops differ in size), then stages in order over all views of one kind, then
 * normalisation; values stay in 0…255 until then. `pixels: "float"` is torchvision on float tensors; `"pil"` rounds after every stage
 * as PIL does.
 */
import { constant, input, type Dim, type Value } from "../src/onnx/graph.js";
import { toModel } from "../src/onnx/model.js";
import {
  Abs,
  Add,
  BatchNormalization,
  Cast,
  Clip,
  Concat,
  CumSum,
  Div,
  Equal,
  Floor,
  Gather,
  GlobalAveragePool,
  GreaterOrEqual,
  Less,
  MatMul,
  Max,
  Min,
  Mul,
  ReduceSum,
  Reshape,
  Resize,
  Round,
  Slice,
  Split,
  Squeeze,
  Sub,
  Transpose,
  Where,
} from "../src/ops/index.js";
import type { Random } from "../src/random.js";
import { tensor, zeros, type DType, type Tensor, type Tensors } from "../src/tensor.js";
import type { Pixels, Statistics, ViewSpec } from "../src/views.js";

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

// ---------------------------------------------------------------- crop

/** n crops to one stack. Inputs: `image0`… uint8 [1,C,h,w]. Output: `views` float32 [n,C,S,S] in 0…255. */
function cropModel(n: number, { size, crop, channels = 3 }: ViewSpec, pixels: Pixels): Uint8Array {
  const images = Array.from({ length: n }, (_, i) => input(`image${i}`, "uint8", [1, channels, `h${i}`, `w${i}`]));
  const resize = pixels === "pil" ? pilResize : floatResize;
  const views = Concat(
    images.map((x) => resize(Cast(x, "float32"), size, crop)),
    { axis: 0 },
  );
  return toModel({ name: "crop", inputs: images, outputs: { views } });
}

const floatResize = (x: Value, size: number, crop: ViewSpec["crop"]): Value =>
  smooth(x, [1, x.shape[1] as number, size, size], crop);

/** torchvision's resize of a float tensor, to sizes that may be known only when the graph runs. */
export const smooth = (
  x: Value,
  sizes: readonly number[] | Value,
  { interpolation, antialias = true }: Partial<ViewSpec["crop"]> = {},
): Value =>
  Resize(
    x,
    { sizes },
    {
      mode: interpolation === "bicubic" ? "cubic" : "linear",
      ...(antialias && { antialias: 1, exclude_outside: 1, cubic_coeff_a: -0.5 }),
    },
  );

/** Width first, rounded after each axis. */
const pilResize = (x: Value, size: number, { interpolation }: ViewSpec["crop"]): Value => {
  const narrowed = toLevels(MatMul(Cast(x, "float64"), Transpose(pilWeights(x, 3, size, interpolation))));
  return Cast(toLevels(MatMul(pilWeights(x, 2, size, interpolation), narrowed)), "float32");
};
const toLevels = (x: Value): Value => Floor(Add(Clip(x, 0, 255), 0.5));

/** PIL's resize along an axis of n pixels as rows of filter weights [S,n], whole multiples of 2⁻²² as there, so that ties round alike. */
function pilWeights(x: Value, axis: number, size: number, interpolation: ViewSpec["crop"]["interpolation"]): Value {
  const others = [0, 1, 2, 3].filter((a) => a !== axis);
  const line = Slice(x, { starts: [0, 0, 0], ends: [1, 1, 1], axes: others });
  const ones = Add(Mul(Cast(Squeeze(line, others), "float64"), 0), 1); // [n]
  const scale = Div(ReduceSum(ones), size); // [1]
  const middles = Sub(CumSum(ones, 0), 0.5); // 0.5, 1.5, …
  const centres = Mul(
    constant(
      [size, 1],
      Array.from({ length: size }, (_, i) => i + 0.5),
      "float64",
    ),
    scale,
  ); // [S,1]
  const distance = Abs(Div(Sub(middles, centres), Max(scale, 1))); // [S,n]
  const weights = interpolation === "bicubic" ? keys(distance) : Max(Sub(1, distance), 0);
  return Div(Round(Mul(Div(weights, ReduceSum(weights, { axes: [1] })), 2 ** 22)), 2 ** 22);
}

/** Keys' cubic with a = −1/2: (3t − 5)t²/2 + 1 below 1, ((5 − t)t − 8)t/2 + 2 below 2 */
function keys(t: Value): Value {
  const near = Add(Mul(Mul(Sub(Mul(t, 1.5), 2.5), t), t), 1);
  const far = Add(Mul(Mul(Sub(Mul(Sub(5, t), t), 8), t), 0.5), 2);
  return Where(Less(t, 1), near, Where(Less(t, 2), far, 0));
}

// ---------------------------------------------------------------- stages

/** Declares an input of the stage. */
type Take = (name: string, shape: readonly Dim[], dtype?: DType) => Value;

/** A kind of stage: what it is fed for n images, and what it does to x [n,C,S,S] in 0…255 (whole numbers under "pil"). */
interface Rule {
  /** Concerns colours alone: alpha, the fourth channel, stays. */
  colours: boolean;
  feeds(stages: readonly Stage[], size: number, pixels: Pixels): Tensors;
  apply(x: Value, take: Take, pixels: Pixels): Value;
}

type Triple = [Value, Value, Value];
/** The stage of an op. */
type Of<Op extends Stage["op"]> = Extract<Stage, { op: Op }>;

/** Numbers of each image, to be broadcast over its pixels: [n,k,1,1] */
const perImage = (rows: readonly (readonly number[])[]): Tensor =>
  tensor("float32", [rows.length, rows[0]!.length, 1, 1], rows.flat());

/** Brightness, contrast, saturation and grey: a blend of the image with black, with the mean of its luma, or with its luma. */
const colour: Rule = {
  colours: true,
  feeds: (stages) => ({
    blend: perImage(
      stages.map((s) => [
        "factor" in s ? s.factor : 0,
        s.op === "saturation" || s.op === "grey" ? 1 : 0,
        s.op === "contrast" ? 1 : 0,
      ]),
    ),
  }),
  apply(x, take, pixels) {
    const [factor, ofLuma, ofMean] = Split(take("blend", ["n", 3, 1, 1]), [1, 1, 1], { axis: 1 }) as Triple;
    const grey = luma(x, pixels);
    const mean = GlobalAveragePool(grey); // [n,1,1,1]
    if (pixels === "float") {
      const rest = Sub(1, factor);
      const degenerate = Add(Mul(grey, Mul(ofLuma, rest)), Mul(mean, Mul(ofMean, rest))); // [n,1,S,S]
      return Clip(Add(Mul(x, factor), degenerate), 0, 255);
    }
    const degenerate = Add(Mul(grey, ofLuma), Mul(Floor(Add(mean, 0.5)), ofMean));
    return Floor(Clip(Add(degenerate, Mul(Sub(x, degenerate), factor)), 0, 255)); // Image.blend truncates
  },
};

/** Rec. 601 luma [n,1,S,S], which grey is already; with torchvision's weights, or PIL's convert("L"): (19595 r + 38470 g + 7471 b + 0x8000) >> 16, exact in float32. */
function luma(x: Value, pixels: Pixels): Value {
  if (x.shape[1] === 1) return x;
  const s = x.shape[2] as number;
  const weigh = (w: number[]): Value => Reshape(MatMul(constant([1, 3], w), Reshape(x, [0, 3, s * s])), [0, 1, s, s]);
  if (pixels === "float") return weigh([0.2989, 0.587, 0.114]);
  return Floor(Mul(Add(weigh([19595, 38470, 7471]), 0x8000), 1 / 65536));
}

/** A turn of the colour circle; under "pil" through 8-bit HSV (Pillow Convert.c): hue and saturation truncated to levels, hue shifted by whole levels and wrapped. */
const hue: Rule = {
  colours: true,
  feeds: (stages, _, pixels) => ({
    turn: perImage(
      stages.map((s) => {
        const { shift } = s as Of<"hue">;
        return pixels === "pil"
          ? [wrapped(Math.trunc(shift * 255), 256)]
          : phases.map((p) => wrapped(p + 6 * shift + 5, 6) - 5);
      }),
    ),
  }),
  apply(x, take, pixels) {
    if (x.shape[1] === 1) throw new Error("A view of one channel has no hue to change: leave jitter.hue at 0.");
    const [r, g, b] = Split(x, [1, 1, 1], { axis: 1 }) as Triple;
    const highest = Max(Max(r, g), b);
    const chroma = Sub(highest, Min(Min(r, g), b));
    const byLargest = (ofRed: Value, ofGreen: Value, ofBlue: Value) =>
      Where(Equal(r, highest), ofRed, Where(Equal(g, highest), ofGreen, ofBlue));
    if (pixels === "float") {
      const position = byLargest(Sub(g, b), Add(Sub(b, r), Mul(chroma, 2)), Add(Sub(r, g), Mul(chroma, 4)));
      const sextant = Div(position, Max(chroma, 1e-6)); // −1 … 5
      return fromHue(Add(sextant, take("turn", ["n", 3, 1, 1])), chroma, highest);
    }
    // C's double arithmetic, kept in a float in between
    const [rc, gc, bc] = [r, g, b].map((c) => Cast(Div(Sub(highest, c), Max(chroma, 1)), "float64")) as Triple;
    const sextant = Cast(Cast(byLargest(Sub(bc, gc), Sub(Add(rc, 2), bc), Sub(Add(gc, 4), rc)), "float32"), "float64");
    const turns = Add(Div(sextant, 6), 1);
    const level = (v: Value) => Floor(Mul(Cast(v, "float64"), 255));
    const shifted = Add(
      level(Cast(Sub(turns, Floor(turns)), "float32")),
      Cast(take("turn", ["n", 1, 1, 1]), "float64"),
    );
    const around = Sub(shifted, Mul(Floor(Div(shifted, 256)), 256));
    const share = Div(level(Div(chroma, Max(highest, 1))), 255);
    const value = Cast(highest, "float64");
    const phased = Add(Div(Mul(around, 6), 255), constant([3, 1, 1], phases, "float64"));
    return Cast(Floor(Add(fromHue(phased, Mul(value, share), value), 0.5)), "float32");
  },
};

/** Where a hue of −1 … 6 sixths stands on the circle for r, g, b, counted from the middle of the channel's dark side: within −6 … 6. */
const phases = [-3, -5, -1];
const wrapped = (v: number, n: number): number => v - n * Math.floor(v / n);

/** v − chroma·clip(2 − d, 0, 1) with d = 3 − ||p| − 3| the distance of p from the next multiple of 6 */
const fromHue = (p: Value, chroma: Value, highest: Value): Value =>
  Sub(Add(highest, chroma), Mul(chroma, Clip(Abs(Sub(Abs(p), 3)), 1, 2)));

/** torchvision's gaussian_blur; kernel default covers ±3σ. Reflected at the borders. */
const gaussian: Rule = {
  colours: false,
  feeds: (stages, size) => {
    const taps = (stages as Of<"blur">[]).map(({ sigma, kernel }) => gaussianTaps(sigma, size, kernel));
    return band(taps, size, "float32", reflected);
  },
  apply(x, take, pixels) {
    const along = downwards(x, take, "float32");
    const y = along(across(along(across(x))));
    return pixels === "pil" ? toLevels(y) : y;
  },
};

/** PIL's GaussianBlur: three box blurs along each axis, rounded after each; in float64, for ties are decided by the 24th bit of the weights. */
const box: Rule = {
  colours: false,
  feeds: (stages, size) => {
    const taps = (stages as Of<"blur">[]).map(({ sigma }) => boxTaps(boxRadius(sigma)));
    return band(taps, size, "float64", (i, n) => Math.min(Math.max(i, 0), n - 1));
  },
  apply(x, take) {
    const along = downwards(x, take, "float64");
    const thrice = (v: Value) => [1, 2, 3].reduce((y) => Floor(Add(along(y), 0.5)), v);
    return Cast(thrice(across(thrice(across(Cast(x, "float64"))))), "float32");
  },
};

const solarize: Rule = {
  colours: true,
  feeds: (stages, _, pixels) => ({
    threshold: perImage(stages.map((s) => [(s as Of<"solarize">).threshold * (pixels === "pil" ? 256 : 255)])),
  }),
  apply: (x, take) => Where(GreaterOrEqual(x, take("threshold", ["n", 1, 1, 1])), Sub(255, x), x),
};

const rules = { colour, hue, gaussian, box, solarize } satisfies Record<string, Rule>;

function kindOf(s: Stage, pixels: Pixels): keyof typeof rules {
  if (s.op === "blur") return pixels === "pil" && s.kernel === undefined ? "box" : "gaussian";
  return s.op === "hue" || s.op === "solarize" ? s.op : "colour";
}

// ---------------------------------------------------------------- blur

/** Normalised weights of exp(−t²/2σ²), no wider than reflection at the borders of `size` allows. */
export function gaussianTaps(
  sigma: number,
  size: number,
  kernel = 2 * Math.max(1, Math.ceil(3 * sigma)) + 1,
): number[] {
  const radius = Math.min((kernel - 1) / 2, size - 1);
  const taps = Array.from({ length: 2 * radius + 1 }, (_, i) => Math.exp(-((i - radius) ** 2) / (2 * sigma * sigma)));
  const sum = taps.reduce((a, b) => a + b, 0);
  return taps.map((v) => v / sum);
}

/** Pillow's box blur of real radius: whole weights inside, a fraction at both ends, in units of 2⁻²⁴. */
export function boxTaps(radius: number): number[] {
  const whole = 2 * Math.floor(radius) + 1;
  const w = Math.floor(Math.fround(2 ** 24 / Math.fround(Math.fround(radius) * 2 + 1))); // C's float, then an integer
  const edge = Math.floor((2 ** 24 - whole * w) / 2);
  return [edge, ...Array<number>(whole).fill(w), edge].map((v) => v / 2 ** 24);
}

/** Radius of each of Pillow's three box passes for a Gaussian of deviation σ (ImagingGaussianBlur). */
export function boxRadius(sigma: number, passes = 3): number {
  const length = Math.sqrt((12 * sigma * sigma) / passes + 1);
  const whole = Math.floor((length - 1) / 2);
  const a = (2 * whole + 1) * (whole * (whole + 1) - (3 * sigma * sigma) / passes);
  return whole + a / (6 * ((sigma * sigma) / passes - (whole + 1) ** 2));
}

const reflected = (i: number, n: number): number => (n === 1 ? 0 : i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i);

/** Rows of an image are blurred in strips of so many, each from a window of rows a little larger: a product with a small matrix. */
function stripOf(size: number): number {
  let rows = Math.min(size, 32);
  while (size % rows) rows--;
  return rows;
}

/** What `downwards` is fed: `band` [n,1,1,T,W] with image i's taps along its diagonal, `windows` [S/T,W] the rows that each strip sees. */
function band(
  taps: readonly (readonly number[])[],
  size: number,
  dtype: "float32" | "float64",
  inside: (i: number, n: number) => number,
): Tensors {
  const strip = stripOf(size);
  const radius = Math.max(...taps.map((t) => (t.length - 1) / 2));
  const width = strip + 2 * radius;
  const matrix = zeros(dtype, [taps.length, 1, 1, strip, width]);
  taps.forEach((weights, n) => {
    const margin = radius - (weights.length - 1) / 2;
    for (let i = 0; i < strip; i++) matrix.data.set(weights, (n * strip + i) * width + i + margin);
  });
  const windows = Array.from({ length: (size / strip) * width }, (_, i) =>
    inside(Math.floor(i / width) * strip + (i % width) - radius, size),
  );
  return { band: matrix, windows: tensor("int32", [size / strip, width], windows) };
}

/** The blur of a stack along its columns, taps as `band` gives them. */
function downwards(x: Value, take: Take, dtype: DType): (x: Value) => Value {
  const [c, s] = x.shape.slice(1) as [number, number];
  const strip = stripOf(s);
  const matrix = take("band", ["n", 1, 1, strip, "window"], dtype);
  const windows = take("windows", [s / strip, "window"], "int32");
  return (v) => Reshape(MatMul(matrix, Gather(v, windows, { axis: 2 })), [0, c, s, s]); // [n,C,S/T,W,S] before the product
}

const across = (x: Value): Value => Transpose(x, { perm: [0, 1, 3, 2] });

// ---------------------------------------------------------------- the whole

/** The stages of a draw, then normalisation, over a stack. Inputs: `views` [n,C,S,S] in 0…255, and those of stage i with its number behind. Output: `view`. */
function stagesModel(d: Draw, { size, normalize, channels = 3 }: ViewSpec, pixels: Pixels): Uint8Array {
  const views = input("views", "float32", ["n", channels, size, size]);
  const inputs = [views];
  let x = views;
  d.stages.forEach((stage, i) => {
    const take: Take = (name, shape, dtype = "float32") => {
      const v = input(`${name}${i}`, dtype, shape);
      inputs.push(v);
      return v;
    };
    const rule = rules[kindOf(stage, pixels)];
    x = (rule.colours ? onColours : whole)(x, (v) => rule.apply(v, take, pixels));
  });
  return toModel({ name: "stages", inputs, outputs: { view: normalize ? normalized(x, normalize) : Mul(x, 1 / 255) } });
}

const whole = (x: Value, f: (x: Value) => Value): Value => f(x);

/** f of all channels but alpha */
function onColours(x: Value, f: (x: Value) => Value): Value {
  if (x.shape[1] !== 4) return f(x);
  const [colours, alpha] = Split(x, [3, 1], { axis: 1 }) as [Value, Value];
  return Concat([f(colours), alpha], { axis: 1 });
}

/** (x/255 − mean)/std in one node */
function normalized(x: Value, { mean, std }: Statistics): Value {
  const per = (f: (i: number) => number) =>
    constant(
      [mean.length],
      mean.map((_, i) => f(i)),
    );
  const scaled = [per((i) => 255 * mean[i]!), per((i) => (255 * std[i]!) ** 2)] as const;
  return BatchNormalization(
    x,
    per(() => 1),
    per(() => 0),
    ...scaled,
    { epsilon: 0 },
  );
}

/** How views of one kind are made of crops; the augmenter runs it. */
export const augmentation = (view: ViewSpec, pixels: Pixels) => ({
  size: view.size,
  channels: view.channels ?? 3,
  crops: (n: number): Uint8Array => cropModel(n, view, pixels),
  /** Draws with equal keys are staged together. */
  key: (d: Draw): string => d.stages.map((s) => kindOf(s, pixels)).join(" "),
  stages: (d: Draw): Uint8Array => stagesModel(d, view, pixels),
  /** All inputs of the stages but `views`, for draws of one key. */
  feeds: (draws: readonly Draw[]): Tensors =>
    Object.fromEntries(
      draws[0]!.stages.flatMap((first, i) => {
        const feeds = rules[kindOf(first, pixels)].feeds(
          draws.map((d) => d.stages[i]!),
          view.size,
          pixels,
        );
        return Object.entries(feeds).map(([name, t]) => [`${name}${i}`, t]);
      }),
    ),
});
