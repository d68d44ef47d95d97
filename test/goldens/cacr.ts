/** CACR against the authors' code: losses of the three forms, queue, teacher, schedules and steps. */
import { l2normalize } from "../../graphs/layers.js";
import { batchLoss, cacr, mocov3Loss, queueLoss, type CacrOptions } from "../../graphs/methods/cacr.js";
import { optimizers } from "../../graphs/optimizers.js";
import { trainingStep } from "../../graphs/step.js";
import { packageStep } from "../../src/artifacts/index.js";
import { stopGradient, Transpose } from "../../src/ops/index.js";
import { scheduled, type Schedule } from "../../src/schedules.js";
import { initialTensors } from "../../src/step.js";
import { tensor, type Tensors } from "../../src/tensor.js";
import { finals, rowsAsView, standIn, weights } from "./bagssl.js";
import { type GoldenCase, type GoldenTensor, type Got, type Kind } from "./case.js";
import { columns, emaOnce, emas, normalizedQueue, queueAfter } from "./densecl.js";
import { graded, inputsOf } from "./graded.js";

/** Golden's options as ours; what a form does not use keeps its default. */
function optionsOf({ options: o, variant }: GoldenCase): CacrOptions {
  return {
    ...cacr.defaults,
    form: { small_scale: "batch", queue: "queue", moco_v3: "mocov3" }[o.variant as string] as CacrOptions["form"],
    positives: o.Ny ?? o.views - 1,
    alpha: o.alpha,
    beta: o.beta,
    tPos: o.tau_pos,
    tNeg: o.tau_neg,
    cost: o.cost ?? o.repulsion ?? "euclidean",
    rbfT: o.rbf_t ?? cacr.defaults.rbfT,
    weighPositives: !["without_w1", "none"].includes(o.choice as string),
    weighNegatives: !["without_w2", "none"].includes(o.choice as string),
    debiased: Boolean(o.with_debiased),
    tauPlus: o.tau_plus,
    intraBatch: Boolean(o.unif_intra_batch),
    temperature: o.T,
    localCrops: o.n_local,
    localKeys: Boolean(o.use_full_mode),
    queueSize: o.queue_len,
    bnGroups: 1,
    hiddenDim: o.mlp_dim ?? (variant.startsWith("queue") ? o.feat_dim : 0),
    outDim: o.dim,
    ...(o.as_released === false ? {} : cacr.released!(cacr.defaults)),
  } as CacrOptions;
}
const tensorsOf = (c: GoldenCase) => c.inputs as Record<string, GoldenTensor>;

/** Weights of one row block [N,C] without the diagonal that it has at (n, skip(n)). */
const without = (rows: Float32Array, columnsOf: number, skip: (n: number) => number): number[] =>
  Array.from(rows).filter((_, i) => i % columnsOf !== skip(Math.floor(i / columnsOf)));

const small: Kind = async (engine, c) => {
  const { values, feeds } = inputsOf(engine, tensorsOf(c));
  const codes = values.codes!;
  const z = l2normalize(codes);
  const { loss, metrics, positive, negative } = batchLoss(z, optionsOf(c));
  const { views: v, batch: n } = c.options as { views: number; batch: number };
  const queryFirst = Transpose(positive, { perm: [1, 0, 2] }); // [V, N, V]
  const out = await graded(
    engine,
    [codes],
    feeds,
    { loss, loss1: metrics.attraction, loss2: metrics.repulsion, queryFirst, negative },
    {
      grad_codes: [loss, codes],
      grad_normalised: [loss, z],
      grad_loss1_normalised: [metrics.attraction, z],
      grad_loss2_normalised: [metrics.repulsion, z],
    },
  );
  return {
    ...out,
    weights1_last_query: without((out.queryFirst as Float32Array).slice(-n * v), v, () => v - 1),
    weights2_last_pair: without((out.negative as Float32Array).slice(-n * n), n, (row) => row),
  };
};

const mocoV3: Kind = async (engine, c) => {
  const { values, feeds } = inputsOf(engine, tensorsOf(c));
  const { q, k } = values as Required<typeof values>;
  const { loss, positive, perKey } = mocov3Loss(l2normalize(q!), stopGradient(l2normalize(k!)), optionsOf(c));
  const out = await graded(
    engine,
    [q!, k!],
    feeds,
    { loss, loss_per_key: perKey, keyFirst: Transpose(positive, { perm: [1, 2, 0] }) }, // [M, V, N]
    { grad_q: [loss, q!] },
  );
  const { batch: n, n_local: local } = c.options as { batch: number; n_local: number };
  return {
    ...out,
    p_for_key0: (out.keyFirst as Float32Array).slice(n, (2 + local) * n),
    ...(await emas(engine, c, [["ema_w", "param_k_w", "param_q_w"]])),
  };
};

const step: Kind = async (engine, c) => {
  const { q: qs, k: ks, queue_raw: raw } = tensorsOf(c);
  const before = normalizedQueue(raw!);
  const { values, feeds } = inputsOf(engine, {
    q: qs!,
    k: ks!,
    queue: { shape: [...before.shape], data: Array.from(before.data as Float32Array) },
  });
  const { q, k, queue } = values as Required<typeof values>;
  const keys = l2normalize(k!);
  const { loss, metrics } = queueLoss(l2normalize(q!), stopGradient(keys), queue!, optionsOf(c));
  const out = await graded(
    engine,
    [q!, k!, queue!],
    feeds,
    { loss, loss1: metrics.attraction, loss2: metrics.repulsion, keys },
    { grad_q: [loss, q!], grad_loss1_q: [metrics.attraction, q!], grad_loss2_q: [metrics.repulsion, q!] },
  );
  const [, n, d] = qs!.shape as [number, number, number];
  const pointer = c.options.queue_ptr_before as number;
  const rows = tensor("float32", [n, d], (out.keys as Float32Array).slice(-n * d));
  return {
    ...out,
    queue_before: columns(before),
    queue_after: columns(queueAfter(before, rows, pointer)),
    queue_ptr_after: [(pointer + n) % (c.options.queue_len as number)],
    ...(await emas(engine, c, [["ema_w", "param_k_w", "param_q_w"]])),
  };
};

const loss: Kind = (engine, c, file) =>
  c.variant === "small"
    ? small(engine, c, file)
    : c.variant === "moco-v3"
      ? mocoV3(engine, c, file)
      : Promise.resolve(undefined);

/** EMA at a momentum of its own each step. */
const ema: Kind = async (engine, c) => {
  const out: Got = {};
  let teacher = tensorsOf(c).k0!;
  for (const [t, momentum] of (c.options.momentum_per_step as number[]).entries()) {
    const data = await emaOnce(engine, teacher, tensorsOf(c)[`q${t}`]!, momentum);
    out[`k${t + 1}`] = data;
    teacher = { shape: teacher.shape, data };
  }
  return out;
};

const mocoV3Schedules = (o: Record<string, number>) => ({
  lr: { schedule: "cosine", peak: o.lr!, warmupEpochs: o.warmup_epochs!, warmup: "fromZero" } as Schedule,
  momentum: { schedule: "cosine", peak: o.moco_m!, end: 1 } as Schedule,
});

const lr: Kind = (_engine, c) => {
  const o = c.options as Record<string, number>;
  const epochs = c.expect.epochs as number[];
  const at = (s: Schedule, per = 1) =>
    epochs.map((e) => scheduled(s, Math.round(e * per), { stepsPerEpoch: per, epochs: o.epochs ?? 200 }));
  switch (c.variant) {
    case "moco-v3": {
      const { lr: rate, momentum } = mocoV3Schedules(o);
      return Promise.resolve({ epochs, lr: at(rate, 1000), momentum: at(momentum, 1000) });
    }
    case "queue": {
      const milestones = c.options.schedule as number[];
      const rate: Schedule = o.cos
        ? { schedule: "cosine", peak: o.lr!, per: "epoch" }
        : { schedule: "step", peak: o.lr!, milestones };
      return Promise.resolve({ epochs, lr: at(rate) });
    }
    case "small_scale": {
      const milestones = c.options.lr_decay_epochs as number[];
      const rate: Schedule = { schedule: "step", peak: (o.lr_base! * o.batch!) / 256, milestones, gamma: o.gamma };
      return Promise.resolve({ epochs, lr: at(rate) });
    }
    default:
      return Promise.resolve(undefined);
  }
};

// ---------------------------------------------------------------- steps

/** Their module names as ours, below student or teacher. */
const inside = (name: string): string =>
  name.startsWith("predictor.")
    ? `student.${name}`
    : name
        .replace(/^(base_encoder|encoder_q)\./, "student.")
        .replace(/^(momentum_encoder|encoder_k)\./, "teacher.")
        .replace(/^(lin|bn|fc)\./, "student.$1.")
        .replace(/\.(lin|bn)\./, ".backbone.$1.")
        .replace(/\.fc\./, ".projector.");

/** The views of step t as the form takes them. */
function viewsAt(c: GoldenCase, t: number, form: CacrOptions["form"]): Tensors {
  const all = Object.keys(c.inputs)
    .filter((n) => n.startsWith("view") && n.endsWith(`_${t}`))
    .map((n) => tensorsOf(c)[n]!);
  if (form !== "mocov3") return { views: rowsAsView(all) };
  const [a, b, ...local] = all;
  return { view1: rowsAsView([a!]), view2: rowsAsView([b!]), ...(local.length && { local: rowsAsView(local) }) };
}

const trainSteps: Kind = async (engine, c) => {
  const o = c.options as Record<string, number>;
  const methodOptions = { ...optionsOf(c), localSize: 1 };
  const { form } = methodOptions;
  const [optimizer, optimizerOptions] =
    form === "mocov3"
      ? [optimizers.lars, { weightDecay: o.weight_decay, trustCoefficient: o.trust_coefficient }]
      : [optimizers.sgd, { weightDecay: o.weight_decay }];
  const training = trainingStep({
    dialect: engine.name,
    method: cacr as never,
    methodOptions,
    network: standIn(o.feat_dim!),
    optimizer: optimizer as never,
    optimizerOptions: { ...optimizer.defaults, momentum: o.sgd_momentum, ...optimizerOptions },
    batchSize: o.batch!,
    size: 1,
    channels: o.in_dim!,
  });
  const raw = tensorsOf(c).queue_raw;
  const start = { ...weights(c, inside), ...(raw && { queue: normalizedQueue(raw) }) };
  const session = await engine.trainingSession(
    packageStep(training, initialTensors(training, 0, start), [engine.name]),
  );
  const out: Got = {};
  const { lr: rate, momentum } = mocoV3Schedules(o);
  const horizon = { stepsPerEpoch: o.iterations_per_epoch ?? 1, epochs: o.epochs ?? 1 };
  const at = (s: Schedule) => Array.from({ length: o.steps! }, (_, t) => scheduled(s, t, horizon));
  const [rates, momenta] = form === "mocov3" ? [at(rate), at(momentum)] : [at(o.lr!), at(o.momentum ?? 0)];
  for (let t = 0; t < o.steps!; t++) {
    await session.step(viewsAt(c, t, form), { lr: rates[t]!, momentum: momenta[t]! });
    const m = session.metrics();
    out[`loss_${t}`] = m.loss!;
    if (m.attraction !== undefined) [out[`loss1_${t}`], out[`loss2_${t}`]] = [m.attraction, m.repulsion!];
  }
  const tensors = session.tensors();
  session.release();
  return {
    ...out,
    ...finals(c, tensors, inside),
    lr_per_step: rates,
    momentum_per_step: momenta,
    ...(raw && { queue_after: columns(tensors.queue!), queue_ptr_after: [(o.steps! * o.batch!) % o.queue_len!] }),
  };
};

export const cacrKinds: Record<string, Kind> = { loss, step, ema, lr, trainSteps };
