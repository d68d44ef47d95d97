/** Optimizers, clipping and schedules against torch and the papers' repositories. */
import { clipped, globalNorm, infinityNorm } from "../../graphs/clipping.js";
import { optimizers, type LarsOptions, type Optimizer } from "../../graphs/optimizers.js";
import { input } from "../../src/onnx/graph.js";
import { Sub } from "../../src/ops/index.js";
import { scheduled, type Schedule } from "../../src/schedules.js";
import { scalar, zeros, type Tensors } from "../../src/tensor.js";
import { evaluate } from "../evaluate.js";
import { gradedStep } from "../gradedStep.js";
import { given, type GoldenCase, type GoldenTensor, type Got, type Kind } from "./case.js";

/** Golden's option names as ours; undefined: a form that is not built yet. */
function chosen(c: GoldenCase): { optimizer: unknown; options: object } | undefined {
  const o = c.options as Record<string, number & boolean>;
  const adam = { beta1: o.beta1, beta2: o.beta2, epsilon: o.eps, weightDecay: o.weight_decay, exclude: "none" };
  const larsOf = (form: Partial<LarsOptions>) => ({
    optimizer: optimizers.lars,
    options: {
      ...optimizers.lars.defaults,
      momentum: o.momentum,
      weightDecay: o.weight_decay,
      nesterov: Boolean(o.nesterov),
      epsilon: o.eps ?? 0,
      ...form,
    },
  });
  switch (c.variant) {
    case "sgd":
      return o.dampening
        ? undefined
        : {
            optimizer: optimizers.sgd,
            options: { momentum: o.momentum, weightDecay: o.weight_decay, nesterov: o.nesterov, exclude: "none" },
          };
    case "adam":
    case "adamw":
      return { optimizer: optimizers[c.variant], options: adam };
    case "lars-moco-v3":
      return larsOf({ trustCoefficient: o.trust_coefficient });
    case "lars-vicreg":
      return larsOf({ trustCoefficient: o.eta, exclude: c.options.exclude === "none" ? "none" : "vectors" });
    case "lars-lightly":
      return o.dampening
        ? undefined
        : larsOf({
            trustCoefficient: o.trust_coefficient,
            separateNorms: true,
            exclude: "none",
            scaleWithoutDecay: false,
          });
    case "lars-solo-learn":
    case "lars-wrapper":
      return larsOf({
        trustCoefficient: o.eta,
        separateNorms: true,
        exclude: o.exclude_bias_n_norm ? "vectors" : "none",
        clipRate: o.clip_lr ?? o.clip,
      });
    default:
      return undefined;
  }
}

export const optimizer: Kind = async (engine, c) => {
  const form = chosen(c);
  if (!form) return undefined;
  const names = Object.keys(c.inputs).filter((n) => !n.startsWith("grad_"));
  const shapes = Object.fromEntries(names.map((n) => [n, (c.inputs[n] as GoldenTensor).shape]));
  const updating = { optimizer: form.optimizer as Optimizer<never>, optimizerOptions: form.options };
  const step = gradedStep(shapes, updating, { dialect: engine.training ? "training" : "portable" });
  const values = step.parameters.map((p) => p.value);
  const updated = step.parameters.map((p) => Sub(p.value, step.updates.get(p)!));
  const states = step.state.map((s) => [s.name, s] as const);
  let parameters: Tensors = Object.fromEntries(names.map((n) => [n, given(c.inputs[n] as GoldenTensor)]));
  let state: Tensors = Object.fromEntries(states.map(([n, e]) => [n, zeros("float32", e.input.shape as number[])]));
  const got: Got = {};
  const steps = Object.keys(c.inputs).filter((n) => n.startsWith(`grad_${names[0]}_`)).length;
  for (let t = 0; t < steps; t++) {
    const rate = (c.options.lr_per_step as number[] | undefined)?.[t] ?? (c.options.lr as number);
    const out = await evaluate(
      engine,
      [...values, ...step.inputs, ...step.scalars, ...states.map(([, s]) => s.input)],
      {
        ...Object.fromEntries(names.map((n, i) => [`${n}.next`, updated[i]!])),
        ...Object.fromEntries(states.flatMap(([n, s]) => ("next" in s ? [[`${n}.next`, s.next]] : []))),
      },
      {
        ...parameters,
        ...state,
        lr: scalar(rate),
        ...Object.fromEntries(names.map((n) => [`grad_${n}`, given(c.inputs[`grad_${n}_${t}`] as GoldenTensor)])),
      },
    );
    parameters = Object.fromEntries(names.map((n) => [n, out[`${n}.next`]!]));
    state = Object.fromEntries(states.map(([n]) => [n, out[`${n}.next`]!]));
    for (const n of names) got[`${n}_${t + 1}`] = parameters[n]!.data as Float32Array;
  }
  // one name here, two in the references
  const theirs = (kind: string, n: string): string[] =>
    (kind === "velocity" ? ["momentum_buffer", "mu"] : [kind]).map((k) => `state_${k}_${n}`);
  for (const [path, t] of Object.entries(state)) {
    const [, n, kind] = path.split(".") as [string, string, string?];
    if (kind) for (const quantity of theirs(kind, n)) got[quantity] = t.data as Float32Array;
  }
  return got;
};

export const clip: Kind = async (engine, c) => {
  const limit = c.options.limit as number;
  const bound = { norm: { clipNorm: limit }, norm_inf: { clipInfinityNorm: limit }, value: { clipValue: limit } }[
    c.variant
  ];
  if (!bound) return undefined;
  const names = Object.keys(c.inputs);
  const grads = names.map((n) => input(n, "float32", (c.inputs[n] as GoldenTensor).shape));
  const { norm } = globalNorm(grads);
  const bounded = clipped(grads, norm, bound);
  const out = await evaluate(
    engine,
    grads,
    {
      total_norm: c.variant === "norm_inf" ? infinityNorm(grads) : norm,
      ...Object.fromEntries(names.map((n, i) => [`${n}.clipped`, bounded[i]!])),
    },
    Object.fromEntries(names.map((n) => [n, given(c.inputs[n] as GoldenTensor)])),
  );
  return {
    total_norm: Number(out.total_norm!.data[0]),
    ...Object.fromEntries(names.map((n) => [n, out[`${n}.clipped`]!.data as Float32Array])),
  };
};

const cosine = (peak: number, end: number, more: object = {}): Schedule => ({ schedule: "cosine", peak, end, ...more });

/** What golden's variants are called here: each quantity's schedule, and the epochs of one step each. */
function schedulesOf(c: GoldenCase): { total: number; of: Record<string, Schedule> } | undefined {
  const o = c.options as Record<string, number>;
  switch (c.variant) {
    case "torch-cosine":
      return { total: o.T_max!, of: { lr: cosine(o.lr!, o.eta_min!) } };
    case "torch-linear-then-cosine": {
      const warm = { warmupEpochs: o.warmup, warmupStart: o.start_factor! * o.lr!, warmup: "fromZero" };
      return { total: o.total!, of: { lr: cosine(o.lr!, 0, warm) } };
    }
    case "moco-v3": {
      const lr = cosine(o.lr!, 0, { warmupEpochs: o.warmup_epochs, warmup: "fromZero" });
      return { total: o.epochs!, of: { lr, momentum: cosine(o.moco_m!, 1) } };
    }
    case "lightly-cosine-warmup-schedule": {
      const warm = { warmupEpochs: o.warmup_steps, warmupStart: o.warmup_start_value };
      return { total: o.max_steps!, of: { value: cosine(o.start_value!, o.end_value!, { ...warm, reached: "last" }) } };
    }
    case "lightly-cosine-schedule-momentum":
      return { total: o.max_steps!, of: { value: cosine(o.start_value!, o.end_value!, { reached: "last" }) } };
    case "solo-learn-linear-warmup-cosine": {
      const warm = { warmupEpochs: o.warmup_epochs, warmupStart: o.warmup_start_lr, warmup: "toPeak" };
      return { total: o.max_epochs!, of: { lr: cosine(o.base_lr!, o.eta_min!, warm) } };
    }
    case "timm-cosine-step-index": {
      const warm = { warmupEpochs: o.warmup_t, warmupStart: o.warmup_lr_init, warmup: "fromZero", from: "start" };
      return { total: o.t_initial!, of: { lr: cosine(o.base_lr!, o.lr_min!, warm) } };
    }
    default:
      return undefined;
  }
}

export const schedule: Kind = (_engine, c) => {
  const schedules = schedulesOf(c);
  if (!schedules) return Promise.resolve(undefined);
  const places = ["steps", "t", "epochs"].find((k) => k in c.expect)!;
  const at = c.expect[places] as number[];
  // fractional epochs: a thousand steps each stand for them
  const stepsPerEpoch = at.every(Number.isInteger) ? 1 : 1000;
  const values = (s: Schedule) =>
    at.map((t) => scheduled(s, Math.round(t * stepsPerEpoch), { stepsPerEpoch, epochs: schedules.total }));
  return Promise.resolve({
    [places]: at,
    ...Object.fromEntries(Object.entries(schedules.of).map(([quantity, s]) => [quantity, values(s)])),
  });
};
