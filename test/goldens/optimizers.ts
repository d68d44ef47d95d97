/** Optimizers, clipping and schedules against torch and the papers' repositories. */
import { optimizers, type Optimizer } from "../../graphs/optimizers.js";
import { rootScope } from "../../graphs/scope.js";
import { clipFactor } from "../../graphs/step.js";
import { input } from "../../src/onnx/graph.js";
import { Add, Mul, ReduceSumSquare, Sqrt, Sub } from "../../src/ops/index.js";
import { scheduled, type Schedule } from "../../src/schedules.js";
import { scalar, zeros, type Tensors } from "../../src/tensor.js";
import { evaluate } from "../evaluate.js";
import { given, type GoldenCase, type GoldenTensor, type Got, type Kind } from "./case.js";

/** Golden's option names as ours; undefined: a form that is not built yet. */
function chosen(c: GoldenCase): { optimizer: unknown; options: object } | undefined {
  const o = c.options as Record<string, number & boolean>;
  const adam = { beta1: o.beta1, beta2: o.beta2, epsilon: o.eps, weightDecay: o.weight_decay, exclude: "none" };
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
      return {
        optimizer: optimizers.lars,
        options: { momentum: o.momentum, weightDecay: o.weight_decay, trustCoefficient: o.trust_coefficient },
      };
    default:
      return undefined;
  }
}

export const optimizer: Kind = async (engine, c) => {
  const form = chosen(c);
  if (!form) return undefined;
  const { scope, collected } = rootScope(engine.training ? "training" : "portable");
  const names = Object.keys(c.inputs).filter((n) => !n.startsWith("grad_"));
  const values = names.map((n) => input(n, "float32", (c.inputs[n] as GoldenTensor).shape));
  const grads = names.map((n) => input(`grad_${n}`, "float32", (c.inputs[n] as GoldenTensor).shape));
  const lr = input("lr", "float32", []);
  const o = form.optimizer as Optimizer<object>;
  o.begin?.(scope, form.options);
  const updated = names.map((n, i) =>
    Sub(values[i]!, o.update(scope.child(n), values[i]!, grads[i]!, lr, form.options, scope)),
  );
  const states = [...collected.states];
  let parameters: Tensors = Object.fromEntries(names.map((n) => [n, given(c.inputs[n] as GoldenTensor)]));
  let state: Tensors = Object.fromEntries(states.map(([n, e]) => [n, zeros("float32", e.input.shape as number[])]));
  const got: Got = {};
  const steps = Object.keys(c.inputs).filter((n) => n.startsWith(`grad_${names[0]}_`)).length;
  for (let t = 0; t < steps; t++) {
    const rate = (c.options.lr_per_step as number[] | undefined)?.[t] ?? (c.options.lr as number);
    const out = await evaluate(
      engine,
      [...values, ...grads, lr, ...states.map(([, e]) => e.input)],
      {
        ...Object.fromEntries(names.map((n, i) => [`${n}.next`, updated[i]!])),
        ...Object.fromEntries(states.map(([n, e]) => [`${n}.next`, e.next!])),
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
  const theirs = { velocity: "momentum_buffer", mu: "mu", exp_avg: "exp_avg", exp_avg_sq: "exp_avg_sq" } as Record<
    string,
    string
  >;
  for (const [path, t] of Object.entries(state)) {
    const [n, kind] = path.split(".") as [string, string?];
    if (kind) got[`state_${theirs[kind]}_${n}`] = t.data as Float32Array;
  }
  return got;
};

export const clip: Kind = async (engine, c) => {
  if (c.variant !== "norm") return undefined;
  const names = Object.keys(c.inputs);
  const grads = names.map((n) => input(n, "float32", (c.inputs[n] as GoldenTensor).shape));
  const norm = Sqrt(grads.map((g) => ReduceSumSquare(g, { keepdims: 0 })).reduce((a, b) => Add(a, b)));
  const clipped = grads.map((g) => Mul(g, clipFactor(norm, c.options.limit as number)));
  const out = await evaluate(
    engine,
    grads,
    { total_norm: norm, ...Object.fromEntries(names.map((n, i) => [`${n}.clipped`, clipped[i]!])) },
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
