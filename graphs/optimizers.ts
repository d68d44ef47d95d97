/** Optimizers: from a gradient and its state to the update u of each parameter, p ← p − u. Weight decay and the rate are in u. */
import { constant, type Value } from "../src/onnx/graph.js";
import { Add, Div, Greater, Mul, Pow, ReduceL2, Sqrt, Sub, Where } from "../src/ops/index.js";
import { zerosInit } from "./layers.js";
import type { Scope } from "./scope.js";

export interface Optimizer<Options> {
  summary: string;
  defaults: Options;
  /** u of one parameter. `s` keeps this parameter's state, `shared` the state of all; lr is a scalar. */
  update(s: Scope, p: Value, g: Value, lr: Value, options: Options, shared: Scope): Value;
  /** Once a step, before the parameters. */
  begin?(shared: Scope, options: Options): void;
}

/** Parameters without weight decay: none, or vectors and scalars (biases and norms). */
export type Exclude = "none" | "vectors";
const decayOf = (p: Value, weightDecay: number, exclude: Exclude): number =>
  exclude === "vectors" && p.shape.length <= 1 ? 0 : weightDecay;
/** g + wd·p */
const decayed = (g: Value, p: Value, wd: number): Value => (wd ? Add(g, Mul(p, wd)) : g);
const shapeOf = (p: Value): number[] => p.shape as number[];

export interface SgdOptions {
  momentum: number;
  weightDecay: number;
  nesterov: boolean;
  exclude: Exclude;
}
/** d = g + wd·p; v ← μ·v + d; u = lr·v (nesterov: lr·(d + μ·v)). torch.optim.SGD */
export const sgd: Optimizer<SgdOptions> = {
  summary: "SGD with momentum and coupled weight decay (torch.optim.SGD)",
  defaults: { momentum: 0.9, weightDecay: 1e-4, nesterov: false, exclude: "none" },
  update(s, p, g, lr, { momentum, weightDecay, nesterov, exclude }) {
    const d = decayed(g, p, decayOf(p, weightDecay, exclude));
    if (!momentum) return Mul(d, lr);
    const v = Add(Mul(s.state("velocity", shapeOf(p), zerosInit), momentum), d);
    s.update("velocity", v);
    return Mul(nesterov ? Add(d, Mul(v, momentum)) : v, lr);
  },
};

export interface AdamOptions {
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  exclude: Exclude;
}
const adamDefaults: AdamOptions = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.05, exclude: "vectors" };

/** m̂/(√v̂ + ε), m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², bias-corrected by 1 − βᵗ */
function adamDirection(s: Scope, p: Value, g: Value, { beta1, beta2, epsilon }: AdamOptions, shared: Scope): Value {
  const moment = (name: string, beta: number, term: Value): Value => {
    const next = Add(Mul(s.state(name, shapeOf(p), zerosInit), beta), Mul(term, 1 - beta));
    s.update(name, next);
    return next;
  };
  const m = moment("exp_avg", beta1, g);
  const v = moment("exp_avg_sq", beta2, Mul(g, g));
  const t = shared.state("t", [], zerosInit);
  const corrected = (beta: number): Value => Sub(1, Pow(constant([], beta), t));
  const denominator = Add(Div(Sqrt(v), Sqrt(corrected(beta2))), epsilon);
  return Div(Div(m, corrected(beta1)), denominator);
}
const countStep = (shared: Scope): void => shared.update("t", Add(shared.state("t", [], zerosInit), 1));

/** u = lr·(m̂/(√v̂ + ε) + wd·p). torch.optim.AdamW */
export const adamw: Optimizer<AdamOptions> = {
  summary: "Adam with decoupled weight decay (torch.optim.AdamW)",
  defaults: adamDefaults,
  begin: countStep,
  update(s, p, g, lr, o, shared) {
    return Mul(decayed(adamDirection(s, p, g, o, shared), p, decayOf(p, o.weightDecay, o.exclude)), lr);
  },
};

/** AdamW with the decay added to the gradient instead. torch.optim.Adam */
export const adam: Optimizer<AdamOptions> = {
  summary: "Adam with coupled weight decay (torch.optim.Adam)",
  defaults: { ...adamDefaults, weightDecay: 0 },
  begin: countStep,
  update(s, p, g, lr, o, shared) {
    return Mul(adamDirection(s, p, decayed(g, p, decayOf(p, o.weightDecay, o.exclude)), o, shared), lr);
  },
};

export interface LarsOptions {
  momentum: number;
  weightDecay: number;
  trustCoefficient: number;
}
/**
 * Matrices: d = g + wd·p, d ← d·η‖p‖/‖d‖ (1 where a norm is 0); vectors: d = g. v ← μ·v + d; u = lr·v.
 * facebookresearch/moco-v3 optimizer.py
 */
export const lars: Optimizer<LarsOptions> = {
  summary: "LARS as in MoCo-v3: no decay and no trust ratio on vectors",
  defaults: { momentum: 0.9, weightDecay: 1e-6, trustCoefficient: 0.001 },
  update(s, p, g, lr, { momentum, weightDecay, trustCoefficient }) {
    const d = p.shape.length > 1 ? trusted(decayed(g, p, weightDecay), p, trustCoefficient) : g;
    const v = Add(Mul(s.state("mu", shapeOf(p), zerosInit), momentum), d);
    s.update("mu", v);
    return Mul(v, lr);
  },
};
function trusted(d: Value, p: Value, coefficient: number): Value {
  const [pn, dn] = [ReduceL2(p, { keepdims: 0 }), ReduceL2(d, { keepdims: 0 })];
  const ratio = Where(Greater(pn, 0), Where(Greater(dn, 0), Div(Mul(pn, coefficient), dn), 1), 1);
  return Mul(d, ratio);
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- options differ from entry to entry
export const optimizers = { sgd, adam, adamw, lars } satisfies Record<string, Optimizer<any>>;
export type OptimizerName = keyof typeof optimizers;
