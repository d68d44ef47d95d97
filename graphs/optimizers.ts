/** Optimizers: from a gradient and its state to the update u of each parameter, p ← p − u. Weight decay and the rate are in u. */
import type { Choices } from "../src/names.js";
import { constant, type Value } from "../src/onnx/graph.js";
import { Add, Div, Greater, Min, Mul, Pow, ReduceL2, Sqrt, Sub, Where } from "../src/ops/index.js";
import { zerosInit } from "./layers.js";
import type { Scope } from "./scope.js";

export interface Optimizer<Options> {
  summary: string;
  defaults: Options;
  /** The words that an option may be, where it is one of a few. */
  choices?: Choices<Options>;
  /** What the options of parameters that `exclude` names are in place of their own. */
  excluded: Partial<Options>;
  /** What is made of the gradient of each parameter by itself, before `update`; undefined: nothing. */
  tensorwise?(options: Options): ((p: Value, g: Value, lr: Value) => Value) | undefined;
  /**
   * u of one parameter, or of several with the same options in one value: each number goes by itself. `s` keeps their state, `shared` the
   * state of all; lr is a scalar, or a column where each row has a rate of its own.
   */
  update(s: Scope, p: Value, g: Value, lr: Value, options: Options, shared: Scope): Value;
  /** Once a step, before the parameters. */
  begin?(shared: Scope, options: Options): void;
}

/** Parameters without weight decay: none, or vectors and scalars (biases and norms). */
export type Exclude = (typeof exclusions)[number];
const exclusions = ["none", "vectors"] as const;
const choices = { exclude: exclusions };
const withoutDecay = { weightDecay: 0 };
/** The options of one parameter, trimmed: [C,1,1] is a vector as well. */
export function optionsOf<O extends object & { exclude?: Exclude }>(optimizer: Optimizer<O>, p: Value, options: O): O {
  return options.exclude === "vectors" && p.shape.length <= 1 ? { ...options, ...optimizer.excluded } : options;
}
/** g + wd·p */
const decayed = (g: Value, p: Value, wd: number): Value => (wd ? Add(g, Mul(p, wd)) : g);
const shapeOf = (p: Value): number[] => p.shape as number[];

/** v ← μ·v + d → v, nesterov: d + μ·v. torch.optim.SGD without dampening */
function withMomentum(s: Scope, d: Value, momentum: number, nesterov: boolean): Value {
  if (!momentum) return d;
  const v = Add(Mul(s.state("velocity", shapeOf(d), zerosInit), momentum), d);
  s.update("velocity", v);
  return nesterov ? Add(d, Mul(v, momentum)) : v;
}

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
  choices,
  excluded: withoutDecay,
  update(s, p, g, lr, { momentum, weightDecay, nesterov }) {
    return Mul(withMomentum(s, decayed(g, p, weightDecay), momentum, nesterov), lr);
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
  choices,
  excluded: withoutDecay,
  begin: countStep,
  update(s, p, g, lr, o, shared) {
    return Mul(decayed(adamDirection(s, p, g, o, shared), p, o.weightDecay), lr);
  },
};

/** AdamW with the decay added to the gradient instead. torch.optim.Adam */
export const adam: Optimizer<AdamOptions> = {
  summary: "Adam with coupled weight decay (torch.optim.Adam)",
  defaults: { ...adamDefaults, weightDecay: 0 },
  choices,
  excluded: withoutDecay,
  begin: countStep,
  update(s, p, g, lr, o, shared) {
    return Mul(adamDirection(s, p, decayed(g, p, o.weightDecay), o, shared), lr);
  },
};

export interface LarsOptions {
  momentum: number;
  nesterov: boolean;
  weightDecay: number;
  /** These parameters have neither decay nor ratio. */
  exclude: Exclude;
  /** η: 0.001 in MoCo-v3, VICReg and lightly, 0.005 in EMP-SSL, 0.02 in solo-learn's recipes and NMCE. */
  trustCoefficient: number;
  /** The ratio is ‖p‖/(‖g‖ + wd·‖p‖ + ε), as in lightly, solo-learn, EMP-SSL and NMCE; not ‖p‖/‖g + wd·p‖, as in MoCo-v3 and VICReg. */
  separateNorms: boolean;
  /** ε of separate norms. */
  epsilon: number;
  /** A parameter's rate lr·η·ratio is at most lr: solo-learn's clip_lr, EMP-SSL, NMCE. */
  clipRate: boolean;
  /** The ratio is taken where there is no decay too; false: lightly. */
  scaleWithoutDecay: boolean;
}
/**
 * LARS. Large Batch Training of Convolutional Networks (You et al., 2017, arXiv 1708.03888) in the forms of the methods' code
 *
 *   r = η·‖p‖/‖g + wd·p‖ (1 where a norm is 0);  d = r·(g + wd·p);  v ← μ·v + d;  u = lr·v
 * The defaults are facebookresearch/moco-v3's optimizer.py.
 */
export const lars: Optimizer<LarsOptions> = {
  summary: "LARS: each matrix has a rate in proportion to its norm over its gradient's",
  defaults: {
    momentum: 0.9,
    nesterov: false,
    weightDecay: 1e-6,
    exclude: "vectors",
    trustCoefficient: 0.001,
    separateNorms: false,
    epsilon: 1e-8,
    clipRate: false,
    scaleWithoutDecay: true,
  },
  choices,
  excluded: { ...withoutDecay, scaleWithoutDecay: false },
  tensorwise: (o) => (o.weightDecay || o.scaleWithoutDecay ? (p, g, lr) => trusted(p, g, lr, o) : undefined),
  update: (s, _p, g, lr, { momentum, nesterov }) => Mul(withMomentum(s, g, momentum, nesterov), lr),
};
/** r·(g + wd·p). With separate norms a gradient of 0 is left alone: it gets no decay either. */
function trusted(p: Value, g: Value, lr: Value, o: LarsOptions): Value {
  const d = decayed(g, p, o.weightDecay);
  const norm = (x: Value): Value => ReduceL2(x, { keepdims: 0 });
  const [pn, gn] = [norm(p), norm(o.separateNorms ? g : d)];
  const below = o.separateNorms ? Add(Add(gn, Mul(pn, o.weightDecay)), o.epsilon) : gn;
  const ratio = Div(Mul(pn, o.trustCoefficient), below);
  const rate = o.clipRate ? Min(Div(ratio, lr), 1) : ratio;
  const both = Greater(Min(pn, gn), 0);
  return o.separateNorms ? Where(both, Mul(d, rate), g) : Mul(d, Where(both, rate, 1));
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- options differ from entry to entry
export const optimizers = { sgd, adam, adamw, lars } satisfies Record<string, Optimizer<any>>;
export type OptimizerName = keyof typeof optimizers;
