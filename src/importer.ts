/**
 * ONNX files → symbolic graphs of our ops, so that autodiff can train them. Float initializers become what the caller makes of them
 * (parameters); what computes shapes is folded away for the sizes at hand, and the batch may stay a symbol.
 */
import { constant, constantOf, input as placeholder, type Dim, type Value } from "./onnx/graph.js";
import { readGraph, type ReadAttribute, type ReadGraph, type ReadNode } from "./onnx/model.js";
import { constantKnown, folded, knownOf, type Known } from "./onnx/shapes.js";
import * as o from "./ops/index.js";
import { dtypeOf, sizeOf, toFloat32, type Tensor } from "./tensor.js";

/** What the caller makes of weights. */
export interface Leaves {
  /** A float initializer, by its name in the file. */
  parameter(name: string, value: Tensor): Value;
  /** BatchNormalization, whose statistics are state: names and values of scale, bias, mean and variance. */
  batchNorm(x: Value, weights: BatchNormWeights, settings: { epsilon: number; momentum: number }): Value;
}
export type BatchNormWeights = Record<"scale" | "bias" | "mean" | "variance", { name: string; value: Tensor }>;

export interface Imported {
  /** Every value that the image reaches, by its name in the file, in order. */
  readonly values: ReadonlyMap<string, Value>;
  readonly outputs: readonly Value[];
}

/** The graph of a model on a given image [B,C,H,W]; B may be a symbol. */
export function importGraph(model: Uint8Array | ReadGraph, image: Value, leaves: Leaves): Imported {
  const graph = model instanceof Uint8Array ? readGraph(model) : model;
  const input = imageInput(graph, image);
  const known = new Map<Value, Known>(); // what has symbols in it
  const values = new Map<string, Value>([[input.name, image]]);
  const weights = new Map(Object.entries(graph.initializers));
  const context = { known, exportedBatch: input.shape[0], image };
  const valueOf = (name: string): Value | null => {
    const made = values.get(name);
    if (made || name === "") return made ?? null;
    const weight = weights.get(name);
    if (!weight) throw new Error(`it reads "${name}", which nothing before it writes`);
    const value = isWeight(weight) ? leaves.parameter(name, toFloat32(weight)) : constantOf(weight);
    values.set(name, value);
    return value;
  };
  for (const node of graph.nodes) {
    const [first, ...others] = node.inputs;
    try {
      // a copy of a weight is a weight of its own: exporters store equal ones once
      if (node.type === "Identity" && weights.has(first!)) weights.set(node.outputs[0]!, weights.get(first!)!);
      else if (node.type === "BatchNormalization")
        values.set(node.outputs[0]!, leaves.batchNorm(valueOf(first!)!, statistics(others, weights), settings(node)));
      else built(node, node.inputs.map(valueOf), context).forEach((v, i) => values.set(node.outputs[i]!, v));
    } catch (error) {
      throw new Error(`${node.type} at node "${node.name}": ${(error as Error).message}`, { cause: error });
    }
  }
  return { values, outputs: graph.outputs.map((name) => valueOf(name)!) };
}

/** A float of rank 0 is a number of the architecture, not something learned. */
const isWeight = (t: Tensor): boolean => t.dtype.startsWith("float") && t.shape.length > 0;

function imageInput({ inputs }: ReadGraph, image: Value): ReadGraph["inputs"][number] {
  const [input, ...others] = inputs;
  if (!input || others.length)
    throw new Error(
      `Expected a model with one input, the image, but it has ${inputs.map((v) => v.name).join(", ") || "none"}.`,
    );
  const channels = input.shape[1];
  if (input.shape.length !== 4 || (typeof channels === "number" && channels > 0 && channels !== image.shape[1]))
    throw new Error(
      `The model takes ${input.name} [${input.shape.join(",")}], but the images are [${image.shape.join(",")}].`,
    );
  return input;
}

function statistics(names: readonly string[], weights: ReadonlyMap<string, Tensor>): BatchNormWeights {
  const [scale, bias, mean, variance] = names.map((name) => {
    const value = weights.get(name);
    if (!value) throw new Error(`its "${name}" is computed, not stored`);
    return { name, value: toFloat32(value) };
  });
  return { scale: scale!, bias: bias!, mean: mean!, variance: variance! };
}
const settings = ({ attributes: { epsilon = 1e-5, momentum = 0.9 } }: ReadNode) =>
  ({ epsilon, momentum }) as { epsilon: number; momentum: number };

interface Context {
  known: Map<Value, Known>;
  /** The batch that the file was exported at. */
  exportedBatch: Dim | undefined;
  image: Value;
}
type Inputs = readonly (Value | null)[];
type Attributes = Readonly<Record<string, ReadAttribute | undefined>>;

/** One node: folded where everything it reads is known, else built by the table. */
function built(node: ReadNode, inputs: Inputs, context: Context): readonly Value[] {
  const { known } = context;
  const fold = folded(
    node.type,
    inputs[0] ?? null,
    inputs.map((v) => v && (known.get(v) ?? knownOf(v))),
    node.attributes,
  );
  if (fold) {
    const value = constantKnown(fold) ?? placeholder(`${node.name} of symbols`, fold.dtype, fold.shape);
    if (!value.constant) known.set(value, fold);
    return [value];
  }
  if (node.type === "Constant") return [constantOf(node.attributes.value as Tensor)];
  if (node.type === "Reshape") return [reshaped(inputs[0]!, inputs[1]!, context)];
  if (node.type === "Expand") return [expanded(inputs[0]!, inputs[1]!, context)];
  const build = builders[node.type];
  if (!build || !["", "ai.onnx", "com.microsoft"].includes(node.domain))
    throw new Error(`there is no rule for this op. Known are ${Object.keys(builders).sort().join(", ")}.`);
  const open = inputs.find((v) => v && known.has(v));
  if (open) throw new Error(`it needs numbers where the shape has symbols ([${known.get(open)!.dims.join(",")}])`);
  return build(inputs as readonly Value[], node.attributes, node);
}

/** Reshape by numbers: a symbol at its own place is 0 (copied), elsewhere −1; a batch that was written down is any batch. */
function reshaped(x: Value, target: Value, context: Context): Value {
  const { exportedBatch, image } = context;
  const batch = image.shape[0]!;
  const dims = targetShape(target, context);
  const to = dims.map((d, i) => (typeof d === "number" ? d : x.shape[i] === d ? 0 : -1));
  const fits = to.includes(-1) ? x.node === undefined : sizeOf(to) === sizeOf(x.shape as number[]);
  if (to[0] === exportedBatch && x.shape[0] === batch && batch !== exportedBatch && !fits) to[0] = 0;
  if (to.filter((d) => d === -1).length > 1) throw new Error(`it cannot tell the shape [${dims.join(",")}] in numbers`);
  return o.Reshape(x, to);
}

function targetShape(target: Value, { known }: Context): readonly Dim[] {
  const dims = (known.get(target) ?? knownOf(target))?.dims;
  if (!dims) throw new Error("its target shape is computed from the image's content");
  return dims;
}

/** Expand by numbers. Along the batch, if that is a symbol, zeros made of the image carry what is repeated. */
function expanded(x: Value, target: Value, context: Context): Value {
  const { exportedBatch, image } = context;
  const batch = image.shape[0]!;
  const dims = targetShape(target, context);
  const own = [...Array<Dim>(Math.max(0, dims.length - x.shape.length)).fill(1), ...x.shape];
  const to = dims.map((d, i) => (d === 1 ? own[i]! : d));
  if (own[0] === 1 && to[0] === exportedBatch && exportedBatch !== 1) to[0] = batch; // it was written down
  const [first, ...rest] = to;
  if (rest.some((d) => typeof d === "string") || (typeof first === "string" && first !== batch))
    throw new Error(`it cannot tell the shape [${dims.join(",")}] in numbers`);
  if (typeof first === "number") return o.Expand(x, to as number[]);
  const wide = o.Expand(x, [1, ...rest] as number[]);
  if (own[0] === batch) return wide;
  const corner = o.Slice(image, { starts: [0, 0, 0], ends: [1, 1, 1], axes: [1, 2, 3] });
  return o.Add(wide, o.Mul(o.Reshape(corner, [0, ...rest.map(() => 1)]), 0));
}

type Build = (inputs: readonly Value[], attributes: Attributes, node: ReadNode) => readonly Value[];

/** The numbers of a constant input; undefined where the input is left out. */
function given(v: Value | null | undefined): number[] | undefined {
  if (!v) return undefined;
  if (!v.constant) throw new Error("one of its settings is computed from the image's content");
  const bound = 2 ** 31 - 1; // exporters write "to the end" as the largest int64
  return Array.from(v.constant.data as ArrayLike<number>, (x) => Math.min(Math.max(Number(x), -bound), bound));
}
const ints = (a: Attributes, name: string): number[] | undefined => a[name] as number[] | undefined;
const num = (a: Attributes, name: string, usual: number): number => (a[name] as number | undefined) ?? usual;
const refuse = (wrong: boolean, what: string): void => {
  if (wrong) throw new Error(what);
};

type Pair = [number, number];
/** top, left, bottom, right */
type Pads = [number, number, number, number];

/** H and W of a map. */
const sidesOf = (x: Value): Pair =>
  x.shape.slice(2).map((d) => {
    if (typeof d !== "number") throw new Error(`its padding depends on the open dim ${d}; give the image a fixed size`);
    return d;
  }) as Pair;

/** Pads as they are written, or SAME's: ⌈n/stride⌉ places a side, an odd pixel at the end (UPPER) or at the beginning (LOWER). */
function padsOf(a: Attributes, x: Value, kernel: Pair, strides: Pair, dilations: Pair): Pads {
  const auto = (a.auto_pad as string | undefined) ?? "NOTSET";
  if (auto === "NOTSET" || auto === "VALID") return (ints(a, "pads") ?? [0, 0, 0, 0]) as Pads;
  const totals = sidesOf(x).map((n, i) => {
    const last = (Math.ceil(n / strides[i]!) - 1) * strides[i]!;
    return Math.max(0, last + (kernel[i]! - 1) * dilations[i]! + 1 - n);
  });
  const fewer = totals.map((t) => Math.floor(t / 2));
  const more = totals.map((t) => Math.ceil(t / 2));
  return (auto === "SAME_LOWER" ? [...more, ...fewer] : [...fewer, ...more]) as Pads;
}

/** strides, pads, dilations and group of a window of `kernel` that slides over two axes of x */
function window(a: Attributes, x: Value, kernel: readonly Dim[]): Required<o.Window> {
  refuse(kernel.length !== 2, "only windows over two axes are supported");
  const strides = (ints(a, "strides") ?? [1, 1]) as Pair;
  const dilations = (ints(a, "dilations") ?? [1, 1]) as Pair;
  return { strides, dilations, pads: padsOf(a, x, kernel as Pair, strides, dilations), group: num(a, "group", 1) };
}

/** A pooling window; with ceil_mode a last one that begins inside the image is whole. */
function pooling(a: Attributes, x: Value): Required<o.Pooling> {
  const kernel = (ints(a, "kernel_shape") ?? []) as Pair;
  const { strides, pads, dilations } = window(a, x, kernel);
  refuse(
    dilations.some((d) => d !== 1),
    "dilated pooling is not supported",
  );
  if (!num(a, "ceil_mode", 0)) return { kernel, strides, pads };
  const [below, right] = sidesOf(x).map((n, i) => {
    const span = n + pads[i]! + pads[i + 2]! - kernel[i]!;
    const last = Math.ceil(span / strides[i]!) * strides[i]!;
    return last < n + pads[i]! ? last - span : 0;
  }) as Pair;
  return { kernel, strides, pads: [pads[0], pads[1], pads[2] + below, pads[3] + right] };
}

/** Means over windows; what lies outside the image counts as zeros, or (count_include_pad 0) not at all. */
function averagePool(x: Value, a: Attributes): Value {
  const p = pooling(a, x);
  const y = o.AveragePool(x, p);
  if (p.pads.every((v) => v === 0)) return y;
  if (num(a, "count_include_pad", 0)) {
    refuse(num(a, "ceil_mode", 0) !== 0, "ceil_mode with count_include_pad 1 is not supported");
    return y;
  }
  return o.Div(y, o.AveragePool(o.Expand(constant([], 1), [1, 1, ...sidesOf(x)]), p)); // over the share that lies inside
}

const one =
  (f: (x: Value) => Value): Build =>
  ([x]) => [f(x!)];
const two =
  (f: (a: Value, b: Value) => Value): Build =>
  ([a, b]) => [f(a!, b!)];
const many =
  (f: (a: Value, b: Value) => Value): Build =>
  (xs) => [xs.reduce((a, b) => f(a, b))];
/** Axes as an attribute, or since opset 13 (sum) and 18 as an input. */
const reducing =
  (f: o.Reducing): Build =>
  ([x, axes], a) => [f(x!, { axes: ints(a, "axes") ?? given(axes), keepdims: num(a, "keepdims", 1) as 0 | 1 })];
const axesOf = (a: Attributes, axes: Value | undefined): number[] => ints(a, "axes") ?? given(axes) ?? [];

/** How each op is built from the inputs and attributes of a node. */
const builders: Record<string, Build> = {
  ...Object.fromEntries(
    (
      [
        "Abs",
        "Ceil",
        "Cos",
        "Erf",
        "Exp",
        "Floor",
        "HardSwish",
        "Identity",
        "Log",
        "Neg",
        "Not",
        "Reciprocal",
        "Relu",
        "Round",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softplus",
        "Sqrt",
        "Tanh",
        "GlobalAveragePool",
        "GlobalMaxPool",
      ] as const
    ).map((name) => [name, one(o[name])]),
  ),
  ...Object.fromEntries(
    (
      [
        "Add",
        "And",
        "Div",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "MatMul",
        "Mod",
        "Mul",
        "Or",
        "Pow",
        "PRelu",
        "Sub",
      ] as const
    ).map((name) => [name, two(o[name])]),
  ),
  ...Object.fromEntries(
    (
      [
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceSum",
        "ReduceSumSquare",
      ] as const
    ).map((name) => [name, reducing(o[name])]),
  ),
  Max: many(o.Max),
  Min: many(o.Min),
  Sum: many(o.Add),
  Dropout: one((x) => x),
  Cast: ([x], { to }) => [o.Cast(x!, dtypeOf(to as number))],
  Clip: ([x, low, high], a) => [o.Clip(x!, low ?? (a.min as number) ?? null, high ?? (a.max as number) ?? null)],
  Elu: ([x], a) => [o.Elu(x!, num(a, "alpha", 1))],
  Gelu: ([x], { approximate }) => {
    refuse(approximate === "tanh", 'approximate "tanh" is not supported; export with the exact GELU');
    return [o.Mul(x!, o.Mul(0.5, o.Add(1, o.Erf(o.Mul(x!, Math.SQRT1_2)))))];
  },
  HardSigmoid: ([x], a) => [o.HardSigmoid(x!, { alpha: num(a, "alpha", 0.2), beta: num(a, "beta", 0.5) })],
  LeakyRelu: ([x], a) => [o.LeakyRelu(x!, num(a, "alpha", 0.01))],
  Mish: one((x) => o.Mul(x, o.Tanh(o.Softplus(x)))),
  Where: ([c, a, b]) => [o.Where(c!, a!, b!)],
  // products and windows
  Conv: ([x, w, b], a) => [o.Conv(x!, w!, b ?? null, window(a, x!, w!.shape.slice(2)))],
  ConvTranspose: ([x, w, b], a) => {
    const auto = (a.auto_pad as string | undefined) ?? "NOTSET";
    refuse(auto.startsWith("SAME"), `auto_pad ${auto} is not supported here; export with explicit pads`);
    const y = o.ConvTranspose(x!, w!, {
      ...window(a, x!, w!.shape.slice(2)),
      output_padding: (ints(a, "output_padding") ?? [0, 0]) as [number, number],
    });
    return [b ? o.Add(y, o.perChannel(b, y)) : y];
  },
  Gemm: ([a, b, c], { alpha = 1, beta = 1, transA = 0, transB = 0 }) => [
    o.Gemm(a!, b!, c ?? null, { alpha, beta, transA, transB } as o.GemmAttributes),
  ],
  MaxPool: ([x], a) => [o.MaxPool(x!, pooling(a, x!))[0]],
  AveragePool: ([x], a) => [averagePool(x!, a)],
  // normalisation
  InstanceNormalization: ([x, scale, bias], a) => [
    o.InstanceNormalization(x!, scale!, bias!, { epsilon: num(a, "epsilon", 1e-5) }),
  ],
  LayerNormalization: ([x, scale, bias], a) => {
    const zero = (): Value => o.Mul(scale!, 0);
    return [
      o.LayerNormalization(x!, scale!, bias ?? zero(), {
        axis: num(a, "axis", -1),
        epsilon: num(a, "epsilon", 1e-5),
      })[0],
    ];
  },
  Softmax: ([x], a) => [o.Softmax(x!, { axis: num(a, "axis", -1) })],
  LogSoftmax: ([x], a) => [o.LogSoftmax(x!, { axis: num(a, "axis", -1) })],
  // movement
  Concat: (xs, a) => [o.Concat(xs, { axis: num(a, "axis", 0) })],
  Flatten: ([x], a) => {
    const axis = num(a, "axis", 1);
    return [o.Reshape(x!, axis === 1 ? [0, -1] : [sizeOf(x!.shape.slice(0, axis) as number[]), -1])];
  },
  Gather: ([x, at], a) => [o.Gather(x!, at!, { axis: num(a, "axis", 0) })],
  Pad: ([x, pads, value, axes], a) => {
    refuse((given(value) ?? [0])[0] !== 0, "only padding with zeros is supported");
    refuse(axes !== undefined && axes !== null, "padding by axes is not supported");
    return [o.Pad(x!, given(pads) ?? ints(a, "pads")!, { mode: (a.mode as "constant" | undefined) ?? "constant" })];
  },
  Resize: ([x, , scales, sizes], a) => {
    const mode = (a.mode as "nearest" | "linear" | undefined) ?? "nearest";
    refuse((mode as string) === "cubic", "cubic resizing is not supported");
    return [
      o.Resize(x!, sizes ? { sizes: given(sizes)! } : { scales: given(scales)! }, {
        mode,
        coordinate_transformation_mode: transformation(a.coordinate_transformation_mode as string | undefined),
        nearest_mode: (a.nearest_mode as "floor" | undefined) ?? "round_prefer_floor",
      }),
    ];
  },
  Slice: ([x, starts, ends, axes, steps]) => {
    const first = given(starts)!;
    return [
      o.Slice(x!, {
        starts: first,
        ends: given(ends)!,
        axes: given(axes) ?? first.map((_, i) => i),
        steps: given(steps),
      }),
    ];
  },
  Split: ([x, lengths], a, { outputs }) => {
    const axis = num(a, "axis", 0);
    const length = x!.shape.at(axis) as number;
    const equal = (): number[] => outputs.map(() => length / outputs.length);
    return o.Split(x!, given(lengths) ?? ints(a, "split") ?? equal(), { axis });
  },
  Squeeze: ([x, axes], a) => [o.Squeeze(x!, axesOf(a, axes))],
  Unsqueeze: ([x, axes], a) => [o.Unsqueeze(x!, axesOf(a, axes))],
  Tile: ([x, repeats]) => [o.Tile(x!, given(repeats)!)],
  Transpose: ([x], a) => [o.Transpose(x!, { perm: ints(a, "perm") })],
};

/** PyTorch's pytorch_half_pixel differs from half_pixel only where one pixel is the result. */
const transformation = (mode = "half_pixel"): "half_pixel" | "align_corners" | "asymmetric" =>
  mode === "pytorch_half_pixel" ? "half_pixel" : (mode as "half_pixel");
