/** Reductions and the ops built on one axis: sums, extrema, softmax, top-k. */
import { constant, int64s, type Type, type Value } from "../onnx/graph.js";
import { apply, op, type Op, type Vjp } from "./op.js";
import { isNumber, normalizeAxis, product, reduced, sameType } from "./infer.js";
import { Abs, Cast, Div, Equal, Exp, Mul, Not, Sub } from "./elementwise.js";
import { Expand, OneHot, Reshape, ScatterElements, Unsqueeze } from "./movement.js";

/** axes: default all; keepdims: 1 (default) or 0 */
export interface Reduction {
  axes?: readonly number[];
  keepdims?: 0 | 1;
}
export type Reducing = (x: Value, reduction?: Reduction) => Value;

/** The axes of a reduction, non-negative, whatever form its op gives them in. */
function axesOf(
  x: Type,
  inputs: readonly (Value | undefined)[],
  attributes: Readonly<Record<string, unknown>>,
): number[] {
  const given = (inputs[1]?.constant ? [...inputs[1].constant.data].map(Number) : attributes.axes) as
    number[] | undefined;
  return (given ?? x.shape.map((_, i) => i)).map((a) => normalizeAxis(a, x.shape.length));
}

/** A reduction whose axes are an attribute (opset 17: all but ReduceSum). */
function reduction(type: string, vjp: Vjp | "none"): { call: Reducing; op: Op } {
  const o = op(type, {
    infer: ([x], attributes) => [
      { dtype: x!.dtype, shape: reduced(x!.shape, axesOf(x!, [], attributes), attributes.keepdims as number) },
    ],
    vjp,
  });
  return {
    op: o,
    call: (x, { axes, keepdims = 1 } = {}) =>
      apply(o, [x], { axes: axes?.map((a) => normalizeAxis(a, x.shape.length)), keepdims })[0]!,
  };
}

/** v (cotangent or result of a reduction of x) with the reduced axes back as 1 */
const kept = (v: Value, x: Type, axes: readonly number[]): Value =>
  v.shape.length === x.shape.length ? v : Reshape(v, reduced(x.shape, axes, 1) as number[]);

/** How many elements each result sums. */
const count = (x: Type, axes: readonly number[]): number => {
  const lengths = axes.map((a) => x.shape[a]!);
  if (!lengths.every(isNumber)) throw new Error(`has no gradient over symbolic dims [${lengths.join(",")}]`);
  return product(lengths);
};

/** y = Σ x    dx = g spread over the summed axes */
export const ReduceSum: Reducing = (x, { axes, keepdims = 1 } = {}) =>
  apply(reduceSum, axes ? [x, int64s(axes.map((a) => normalizeAxis(a, x.shape.length)))] : [x], { keepdims })[0]!;
const reduceSum = op("ReduceSum", {
  infer: ([x], { keepdims }, values) => [
    { dtype: x!.dtype, shape: reduced(x!.shape, axesOf(x!, values, {}), keepdims as number) },
  ],
  vjp: ([g], [x, axes]) => [Expand(kept(g!, x!, axesOf(x!, [x, axes], {})), x!.shape as number[]), null],
});

/** y = Σ x/n    dx = g/n spread */
export const ReduceMean: Reducing = (x, r) => reduceMean.call(x, r);
const reduceMean = reduction("ReduceMean", ([g], [x], _, attributes) => {
  const axes = axesOf(x!, [], attributes);
  return [Expand(Mul(kept(g!, x!, axes), 1 / count(x!, axes)), x!.shape as number[])];
});

/** y = Σ x²    dx = 2·g·x */
export const ReduceSumSquare: Reducing = (x, r) => reduceSumSquare.call(x, r);
const reduceSumSquare = reduction("ReduceSumSquare", ([g], [x], _, attributes) => [
  Mul(Mul(kept(g!, x!, axesOf(x!, [], attributes)), 2), x!),
]);

/** y = √Σ x²    dx = g·x/y (undefined at 0) */
export const ReduceL2: Reducing = (x, r) => reduceL2.call(x, r);
const reduceL2 = reduction("ReduceL2", ([g], [x], [y], attributes) => {
  const axes = axesOf(x!, [], attributes);
  return [Mul(Div(kept(g!, x!, axes), kept(y!, x!, axes)), x!)];
});

/** y = Σ |x|    dx = g·sign x */
export const ReduceL1: Reducing = (x, r) => ReduceSum(Abs(x), r);

/** y = log Σ eˣ    dx = g·e^(x−y) */
export const ReduceLogSumExp: Reducing = (x, r) => reduceLogSumExp.call(x, r);
const reduceLogSumExp = reduction("ReduceLogSumExp", ([g], [x], [y], attributes) => {
  const axes = axesOf(x!, [], attributes);
  return [Mul(kept(g!, x!, axes), Exp(Sub(x!, kept(y!, x!, axes))))];
});

/** y = max x    g shared equally by the places that reach the extremum, as PyTorch's amax */
export const ReduceMax: Reducing = (x, r) => reduceMax.call(x, r);
/** y = min x */
export const ReduceMin: Reducing = (x, r) => reduceMin.call(x, r);
const extremum: Vjp = ([g], [x], [y], attributes) => {
  const axes = axesOf(x!, [], attributes);
  const hit = Cast(Equal(x!, kept(y!, x!, axes)), g!.dtype);
  return [Mul(hit, Div(kept(g!, x!, axes), ReduceSum(hit, { axes, keepdims: 1 })))];
};
const reduceMax = reduction("ReduceMax", extremum);
const reduceMin = reduction("ReduceMin", extremum);

/** Index of the largest along `axis` (int64); the first at a tie. Piecewise constant. */
export const ArgMax = (x: Value, { axis = 0, keepdims = 1 }: { axis?: number; keepdims?: 0 | 1 } = {}): Value =>
  apply(argMax, [x], { axis: normalizeAxis(axis, x.shape.length), keepdims })[0]!;
const argMax = op("ArgMax", {
  infer: ([x], { axis, keepdims }) => [
    { dtype: "int64", shape: reduced(x!.shape, [axis as number], keepdims as number) },
  ],
  vjp: "zero",
});

/** The k largest along `axis` and their indices (int64).    dx = g scattered to the indices */
export const TopK = (
  x: Value,
  k: number,
  { axis = -1, largest = 1, sorted = 1 }: { axis?: number; largest?: 0 | 1; sorted?: 0 | 1 } = {},
): [Value, Value] =>
  apply(topK, [x, int64s([k])], { axis: normalizeAxis(axis, x.shape.length), largest, sorted }) as unknown as [
    Value,
    Value,
  ];
const topK = op("TopK", {
  writesAll: true,
  infer: ([x], { axis }, [, k]) => {
    const shape = x!.shape.map((d, i) => (i === axis ? Number(k!.constant!.data[0]) : d));
    const length = x!.shape[axis as number]!;
    if (isNumber(length) && (shape[axis as number] as number) > length)
      throw new Error(`needs k ≤ ${length} along axis ${axis}, got ${shape[axis as number]}`);
    return [
      { dtype: x!.dtype, shape },
      { dtype: "int64", shape },
    ];
  },
  vjp: ([g], [x], [, indices], { axis }) => [
    ScatterElements(Expand(constant([], 0, g!.dtype), x!.shape as number[]), indices!, g!, { axis: axis as number }),
    null,
  ],
});
/** Running sums along an axis.    dx = running sums of g from the other end */
export const CumSum = (x: Value, axis: number, { reverse = 0 }: { reverse?: 0 | 1 } = {}): Value =>
  apply(cumSum, [x, int64s([normalizeAxis(axis, x.shape.length)])], { reverse })[0]!;
const cumSum = op("CumSum", {
  infer: sameType,
  vjp: ([g], [, axis], _, { reverse }) => [
    CumSum(g!, Number(axis!.constant!.data[0]), { reverse: reverse ? 0 : 1 }),
    null,
  ],
});

/** y = e^x/Σe^x along axis    dx = y·(g − Σ g·y) */
export const Softmax = (x: Value, { axis = -1 }: { axis?: number } = {}): Value =>
  apply(softmax, [x], { axis: normalizeAxis(axis, x.shape.length) })[0]!;
const softmax = op("Softmax", {
  infer: sameType,
  vjp: ([g], _, [y], { axis }) => [Mul(y!, Sub(g!, ReduceSum(Mul(g!, y!), { axes: [axis as number] })))],
  fused: ([g], _, [y], { axis }) => [SoftmaxGrad(g!, y!, axis as number)],
});

/** y = x − log Σe^x along axis    dx = g − e^y·Σ g */
export const LogSoftmax = (x: Value, { axis = -1 }: { axis?: number } = {}): Value =>
  apply(logSoftmax, [x], { axis: normalizeAxis(axis, x.shape.length) })[0]!;
const logSoftmax = op("LogSoftmax", {
  infer: sameType,
  vjp: ([g], _, [y], { axis }) => [Sub(g!, Mul(Exp(y!), ReduceSum(g!, { axes: [axis as number] })))],
  fused: ([g], _, [y], { axis }) => [LogSoftmaxGrad(g!, y!, axis as number)],
});

const gradPair = (type: string) => {
  const o = op(type, { domain: "com.microsoft", training: true, infer: ([g]) => [g!], vjp: "none" });
  return (g: Value, y: Value, axis: number): Value => apply(o, [g, y], { axis })[0]!;
};
const SoftmaxGrad = gradPair("SoftmaxGrad_13");
const LogSoftmaxGrad = gradPair("LogSoftmaxGrad_13");

/**
 * Mean cross-entropy of logits [N, K] (or [N, K, …]) against int64 labels [N, …] → [loss, log-probabilities]. Places labelled
 * `ignore_index` (255 in segmentation) are left out of the mean.
 * dx = g·(softmax − onehot)/n over the n places counted; log-probabilities have no gradient of their own.
 */
export const SoftmaxCrossEntropyLoss = (
  scores: Value,
  labels: Value,
  { ignore_index }: { ignore_index?: number } = {},
): [Value, Value] =>
  apply(softmaxCrossEntropyLoss, [scores, labels], { reduction: "mean", ignore_index }) as unknown as [Value, Value];
const softmaxCrossEntropyLoss = op("SoftmaxCrossEntropyLoss", {
  infer: ([scores, labels]) => {
    const [n, , ...rest] = scores!.shape;
    const expected = [n, ...rest];
    if (expected.some((d, i) => d !== labels!.shape[i]) || labels!.shape.length !== expected.length)
      throw new Error(`needs labels of shape [${expected.join(",")}]`);
    return [
      { dtype: scores!.dtype, shape: [] },
      { dtype: scores!.dtype, shape: scores!.shape },
    ];
  },
  vjp: ([g], [, labels], [, logProb], { ignore_index }) => {
    const classes = logProb!.shape[1] as number;
    const onehot = OneHot(labels!, classes, g!.dtype, { axis: 1 }); // a label that is no class gives zeros
    const dx = Sub(Exp(logProb!), onehot);
    if (ignore_index === undefined) return [Mul(dx, Mul(g!, 1 / product(labels!.shape as number[]))), null];
    const counted = Cast(Not(Equal(labels!, constant([], ignore_index as number, "int64"))), g!.dtype);
    return [Mul(dx, Mul(Unsqueeze(counted, [1]), Div(g!, ReduceSum(counted, { keepdims: 0 })))), null];
  },
  fused: ([g], [, labels], [, logProb], attributes) => [
    apply(softmaxCrossEntropyLossGrad, [g!, logProb!, labels!], attributes)[0]!,
    null,
  ],
});
const softmaxCrossEntropyLossGrad = op("SoftmaxCrossEntropyLossGrad", {
  domain: "com.microsoft",
  training: true,
  infer: ([, logProb]) => [logProb!],
  vjp: "none",
});
