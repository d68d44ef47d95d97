/**
 * Linear classifiers on frozen features, as graphs. Several heads (one a learning rate, or one a penalty) are trained side by side:
 * their weights are stacked, so that a step is one product for all, and no head's gradient reaches another's.
 */
import { gradients } from "../src/autodiff.js";
import { constant, input, type Dialect, type Value } from "../src/onnx/graph.js";
import { toModel } from "../src/onnx/model.js";
import {
  Abs,
  Add,
  And,
  Cast,
  Clip,
  Div,
  Equal,
  Expand,
  Gather,
  Gemm,
  Greater,
  Less,
  LessOrEqual,
  LogSoftmax,
  Mul,
  Neg,
  Or,
  ReduceLogSumExp,
  ReduceMax,
  ReduceMean,
  ReduceSum,
  ReduceSumSquare,
  Reshape,
  Slice,
  SoftmaxCrossEntropyLoss,
  Sqrt,
  Squeeze,
  Sub,
  Unsqueeze,
  Where,
} from "../src/ops/index.js";
import type { Init, Parameter, TrainingStep } from "../src/step.js";
import { l2normalize, onesInit, zerosInit } from "./layers.js";
import { sgd, type SgdOptions } from "./optimizers.js";
import { ownScores, places } from "./places.js";
import { rootScope, statesOf } from "./scope.js";

/** logits [N,L,C] of features [N,D] under L heads: weights [L,C,D], biases [L,C] */
function headLogits(x: Value, weight: Value, bias: Value): Value {
  const [heads, classes, width] = weight.shape as [number, number, number];
  const flat = Gemm(x, Reshape(weight, [heads * classes, width]), Reshape(bias, [heads * classes]), { transB: 1 });
  return Reshape(flat, [-1, heads, classes]);
}

/**
 * Inputs `features` [Q,D], `labels` int64 [Q], `weight` [L,C,D], `bias` [L,C]. Outputs `places` [Q,L] of the own class, and `losses`
 * [Q,L], the cross-entropy of each row.
 */
export function headScoresModel(heads: number, classes: number, width: number): Uint8Array {
  const x = input("features", "float32", ["Q", width]);
  const labels = input("labels", "int64", ["Q"]);
  const weight = input("weight", "float32", [heads, classes, width]);
  const bias = input("bias", "float32", [heads, classes]);
  const logits = headLogits(x, weight, bias);
  const losses = Sub(ReduceLogSumExp(logits, { axes: [2], keepdims: 1 }), ownScores(logits, labels));
  return toModel({
    name: "headScores",
    inputs: [x, labels, weight, bias],
    outputs: { places: places(logits, labels), losses: Squeeze(losses, [2]) },
  });
}

/** How features are scaled before a linear classifier. unit: rows of length 1; standard: columns of mean 0, deviation 1. */
export type Scaling = "none" | "unit" | "standard" | "unitStandard";
export const scalings = ["none", "unit", "standard", "unitStandard"] as const satisfies readonly Scaling[];

/** Inputs `features` [Q,D] and `reference` [N,D], whose columns give mean and deviation. Output `scaled` [Q,D]. */
export function scalingModel(scaling: Scaling, width: number): Uint8Array {
  const x = input("features", "float32", ["Q", width]);
  const reference = input("reference", "float32", ["N", width]);
  const rows = (v: Value) => (scaling.startsWith("unit") ? l2normalize(v) : v);
  if (!/standard/i.test(scaling)) return toModel({ name: "scaling", inputs: [x], outputs: { scaled: rows(x) } });
  const mean = ReduceMean(rows(reference), { axes: [0] });
  const centred = Sub(rows(reference), mean);
  const deviation = Sqrt(Add(ReduceMean(Mul(centred, centred), { axes: [0] }), 1e-5));
  return toModel({
    name: "scaling",
    inputs: [x, reference],
    outputs: { scaled: Div(Sub(rows(x), mean), deviation) },
  });
}

// ---------------------------------------------------------------- SGD, one head a learning rate

export interface SgdHeadsOptions extends SgdOptions {
  dialect: Dialect;
  /** Rows of all training features, their width, and classes. */
  rows: number;
  width: number;
  classes: number;
  batchSize: number;
  /** One head each; the scalar `lr` multiplies them all. */
  lrs: readonly number[];
}

/** W ~ N(0, 0.01²), b = 0: the linear evaluations of MoCo, DenseCL and VICReg */
const headInit: Init = { name: "normal", std: 0.01 };

/**
 * One step of mini-batch SGD for every head. Inputs `features` [N,D], `labels` int64 [N], `batch` int64 [B]: the rows of this step.
 * Parameters heads.weight [L,C,D] and heads.bias [L,C]. A head that diverges leaves the others alone.
 */
export function sgdHeadsStep(o: SgdHeadsOptions): TrainingStep {
  const { scope, collected } = rootScope(o.dialect);
  const origin = { path: "heads", dialect: o.dialect };
  const features = input("features", "float32", [o.rows, o.width], origin);
  const labels = input("labels", "int64", [o.rows], origin);
  const batch = input("batch", "int64", [o.batchSize], origin);
  const heads = o.lrs.length;

  const s = scope.child("heads");
  const weight = s.parameter("weight", [heads, o.classes, o.width], headInit);
  const bias = s.parameter("bias", [heads, o.classes], zerosInit);
  const logits = headLogits(Gather(features, batch), weight, bias); // [B,L,C]
  const targets = Expand(Unsqueeze(Gather(labels, batch), [1]), [o.batchSize, heads]);
  const [mean] = SoftmaxCrossEntropyLoss(Reshape(logits, [-1, o.classes]), Reshape(targets, [-1]));
  const loss = Mul(mean, heads); // Σ over heads of each head's mean

  const parameters = [...collected.parameters.values()];
  const found = gradients(
    loss,
    parameters.map((p) => p.value),
  );
  const shared = scope.child("optimizer");
  const rate = (p: Value) =>
    Mul(scope.scalar("lr"), constant([heads, ...Array<number>(p.shape.length - 1).fill(1)], o.lrs));
  const updates = parameters.map((p, i): [Parameter, Value] => [
    p,
    sgd.update(shared.child(p.name), p.value, found[i]!, rate(p.value), o, shared),
  ]);
  const sizes = ReduceSumSquare(found[0]!, { axes: [1, 2], keepdims: 0 }); // [L]
  return {
    dialect: o.dialect,
    inputs: [features, labels, batch],
    scalars: [...collected.scalars.values()],
    parameters,
    state: statesOf(collected),
    loss,
    metrics: {},
    applied: Greater(ReduceSum(Cast(Less(sizes, Infinity), "float32"), { keepdims: 0 }), 0), // some head is alive
    gradients: new Map(parameters.map((p, i) => [p, found[i]!])),
    updates: new Map(updates),
  };
}

// ---------------------------------------------------------------- L-BFGS, one head a penalty

export interface LogisticOptions {
  dialect: Dialect;
  rows: number;
  width: number;
  classes: number;
  /** Penalty of each head: λ/2·‖W‖² beside the mean cross-entropy. scikit-learn's C is 1/(N·λ). */
  penalties: readonly number[];
  /** Pairs (s, y) that the curvature is estimated from. */
  memory: number;
}

/** Σ over all axes but the first: [L,…] → [L] */
const perHead = (x: Value): Value => ReduceSum(x, { axes: x.shape.slice(1).map((_, i) => i + 1), keepdims: 0 });
const dot = (a: Value, b: Value): Value => perHead(Mul(a, b));
/** [L] → [L,1,1] */
const spread = (x: Value): Value => Reshape(x, [-1, 1, 1]);

/**
 * One evaluation of multinomial logistic regression's objective on all rows, and the move that follows (Nocedal & Wright, algorithms
 * 3.1 and 7.4): every head keeps its own curvature pairs and searches its own line, halving the step until
 * f(w + t·d) ≤ f(w) + 10⁻⁴·t·∇f·d.
 *
 *   f(W, b) = mean_i CE(W·x_i + b, y_i) + λ/2·‖W‖²
 *
 * Inputs `features` [N,D], `labels` int64 [N]. The parameter `trial` [L,C,D+1] (bias last) is the point that is evaluated; state
 * `at` is the best point so far, `value` its objective. Metric `slope`: the largest |∇f| at `at`, over heads.
 */
export function logisticStep({ dialect, rows, width, classes, penalties, memory }: LogisticOptions): TrainingStep {
  const { scope: s, collected } = rootScope(dialect);
  const origin = { path: "logistic", dialect };
  const features = input("features", "float32", [rows, width], origin);
  const labels = input("labels", "int64", [rows], origin);
  const heads = penalties.length;
  const shape = [heads, classes, width + 1];

  // the objective at the trial point
  const trial = s.parameter("trial", shape, zerosInit);
  const part = (from: number, to: number) => Slice(trial, { starts: [from], ends: [to], axes: [2] });
  const weight = part(0, width);
  const logits = headLogits(features, weight, Squeeze(part(width, width + 1), [2])); // [N,L,C]
  const targets = Cast(Equal(Unsqueeze(labels, [1, 2]), classIndex(classes)), "float32"); // [N,1,C]
  const entropy = Neg(ReduceSum(Mul(LogSoftmax(logits), targets), { axes: [2], keepdims: 0 })); // [N,L]
  const lambda = constant([heads], penalties);
  const now = Add(ReduceMean(entropy, { axes: [0], keepdims: 0 }), Mul(Mul(perHead(Mul(weight, weight)), 0.5), lambda)); // [L]
  const loss = ReduceSum(now, { keepdims: 0 });
  const [g] = gradients(loss, [trial]) as [Value];

  // is it low enough?
  const at = s.state("at", shape, zerosInit);
  const value = s.state("value", [heads], { name: "constant", value: Infinity });
  const gradient = s.state("gradient", shape, zerosInit);
  const direction = s.state("direction", shape, zerosInit);
  const t = s.state("t", [heads], onesInit);
  const first = Equal(value, Infinity);
  const expected = Add(value, Mul(Mul(t, dot(gradient, direction)), 1e-4));
  const rounding = Mul(value, 1e-7); // float32 sees no smaller fall
  const accepted = Or(first, LessOrEqual(now, Add(expected, rounding))); // [L]
  const keep = (fresh: Value, old: Value) =>
    Where(Reshape(accepted, [-1, ...fresh.shape.slice(1).map(() => 1)]), fresh, old);

  // curvature pairs, newest last
  const [ds, dy] = [Sub(trial, at), Sub(g, gradient)];
  const curved = And(And(accepted, Less(value, Infinity)), Greater(dot(ds, dy), 1e-12));
  const pairs = (name: string, newest: Value): Value[] => {
    const old = Array.from({ length: memory }, (_, i) => s.state(`${name}${i}`, shape, zerosInit));
    return old.map((v, i) => {
      const next = Where(spread(curved), i + 1 < memory ? old[i + 1]! : newest, v);
      s.update(`${name}${i}`, next);
      return next;
    });
  };
  const nextGradient = keep(g, gradient);
  const fresh = descent(nextGradient, pairs("s", ds), pairs("y", dy));

  // the next trial
  const nextAt = keep(trial, at);
  const nextDirection = keep(fresh, direction);
  const opening = Where(first, Div(1, Clip(Sqrt(dot(g, g)), 1, null)), 1); // without curvature yet: a move of length ≤ 1
  const nextT = Where(accepted, opening, Mul(t, 0.5));
  const next = Add(nextAt, Mul(nextDirection, spread(nextT)));
  for (const [name, v] of Object.entries({
    at: nextAt,
    value: Where(accepted, now, value),
    gradient: nextGradient,
    direction: nextDirection,
    t: nextT,
  }))
    s.update(name, v);

  const [parameter] = [...collected.parameters.values()] as [Parameter];
  return {
    dialect,
    inputs: [features, labels],
    scalars: [],
    parameters: [parameter],
    state: statesOf(collected),
    loss,
    metrics: { slope: ReduceMax(Abs(nextGradient), { keepdims: 0 }) },
    applied: Greater(ReduceMax(nextT, { keepdims: 0 }), 0),
    gradients: new Map([[parameter, g]]),
    updates: new Map([[parameter, Sub(trial, next)]]),
  };
}

const classIndex = (classes: number): Value =>
  constant(
    [1, 1, classes],
    Array.from({ length: classes }, (_, c) => c),
    "int64",
  );

/** −H·g by the two-loop recursion; pairs that are still zero are passed over. */
function descent(g: Value, s: readonly Value[], y: readonly Value[]): Value {
  const curvature = s.map((v, i) => dot(v, y[i]!)); // [L]
  const inverse = curvature.map((c) => Where(Greater(c, 0), Div(1, Where(Greater(c, 0), c, 1)), 0));
  const alphas: Value[] = [];
  let q = g;
  for (let i = s.length - 1; i >= 0; i--) {
    alphas[i] = Mul(inverse[i]!, dot(s[i]!, q));
    q = Sub(q, Mul(y[i]!, spread(alphas[i]!)));
  }
  const newest = dot(y.at(-1)!, y.at(-1)!);
  const known = Greater(newest, 0);
  q = Mul(q, spread(Where(known, Div(curvature.at(-1)!, Where(known, newest, 1)), 1)));
  s.forEach((v, i) => {
    const beta = Mul(inverse[i]!, dot(y[i]!, q));
    q = Add(q, Mul(v, spread(Sub(alphas[i]!, beta))));
  });
  return Neg(q);
}
