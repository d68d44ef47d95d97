/** DenseCL against the authors' code: the product's loss, neck, teacher, queues and step on golden's inputs. */
import { batchNorm, conv, l2normalize } from "../../graphs/layers.js";
import { densecl, matched, neck } from "../../graphs/methods/densecl.js";
import type { Network } from "../../graphs/methods/index.js";
import { optimizers } from "../../graphs/optimizers.js";
import { rootScope, type Scope } from "../../graphs/scope.js";
import { trainingStep } from "../../graphs/step.js";
import { gradients } from "../../src/autodiff.js";
import { packageStep } from "../../src/artifacts/index.js";
import type { NativeEngine } from "../../src/engines/native/index.js";
import { input, type Dialect, type Value } from "../../src/onnx/graph.js";
import { Add, Mul, ReduceMean, ReduceSum, Relu, Reshape } from "../../src/ops/index.js";
import { scheduled } from "../../src/schedules.js";
import { initialTensors } from "../../src/step.js";
import { scalar, tensor, zeros, type Tensor, type Tensors } from "../../src/tensor.js";
import { evaluate } from "../evaluate.js";
import { enqueue } from "./queue.js";
import { flipped, given, type GoldenCase, type GoldenTensor, type Got, type Kind } from "./case.js";

export const dialectOf = (engine: NativeEngine): Dialect => (engine.training ? "training" : "portable");
const origin = (engine: NativeEngine) => ({ path: "student", dialect: dialectOf(engine) });
export const valueLike = (engine: NativeEngine, name: string, t: GoldenTensor, shape = t.shape): Value =>
  input(name, "float32", shape, origin(engine));
const cellsOf = (t: GoldenTensor): number[] =>
  t.shape.length === 4 ? [t.shape[0]!, t.shape[1]!, t.shape[2]! * t.shape[3]!] : t.shape;

/** Columns of a raw queue as unit rows [K, D]. */
export function normalizedQueue(raw: GoldenTensor): Tensor {
  const rows = given(flipped(raw));
  const width = rows.shape[1]!;
  const data = rows.data as Float32Array;
  for (let i = 0; i < data.length; i += width) {
    const norm = Math.hypot(...data.subarray(i, i + width));
    for (let k = 0; k < width; k++) data[i + k]! /= norm;
  }
  return rows;
}
/** [K, D] → golden's [D, K], row-major */
export const columns = (t: Tensor): number[] => {
  const [n, d] = t.shape as [number, number];
  return Array.from({ length: n * d }, (_, i) => Number(t.data[(i % n) * d + Math.floor(i / n)]));
};

/** A queue after `rows` were written at `pointer`. */
export function queueAfter(queue: Tensor, rows: Tensor, pointer: number): Tensor {
  const copy = tensor("float32", queue.shape, queue.data as Float32Array);
  enqueue(copy, rows, pointer / rows.shape[0]!);
  return copy;
}

const optionsOf = (o: GoldenCase["options"]) => ({
  ...densecl.defaults,
  queueSize: o.queue_len as number,
  temperature: o.temperature as number,
  momentum: o.momentum as number,
  hiddenDim: (o.hid as number) ?? densecl.defaults.hiddenDim,
  outDim: o.dim as number,
  lossLambda: o.loss_lambda as number,
  bnGroups: (o.world_size as number) ?? 1,
});

/** Loss and everything around it, from branch outputs given as values. */
async function lossOf(
  engine: NativeEngine,
  c: GoldenCase,
  own: Record<string, Value>,
  feeds: Tensors,
  wrt: Record<string, Value>,
  extra: Record<string, Value> = {},
): Promise<Got> {
  const { scope, collected } = rootScope(dialectOf(engine));
  const { loss, metrics } = densecl.loss(scope, own, own, optionsOf(c.options));
  const grads = gradients(loss, Object.values(wrt));
  const lambda = collected.scalars.get("lossLambda")!;
  const queues = ["queue", "queue2"].map((name) => collected.states.get(name)!);
  const inputs = [
    ...new Set([
      ...Object.values(own).concat(Object.values(wrt)).flatMap(leaves),
      lambda,
      ...queues.map((q) => q.input),
    ]),
  ];
  const out = await evaluate(
    engine,
    inputs,
    {
      loss,
      single: metrics.lossContraSingle!,
      dense: metrics.lossContraDense!,
      match: matched(own.featQ!, own.featK!),
      rows: queues[0]!.rows!,
      rows2: queues[1]!.rows!,
      ...extra,
      ...Object.fromEntries(Object.keys(wrt).map((name, i) => [`grad_${name}`, grads[i]!])),
    },
    {
      ...feeds,
      lossLambda: scalar(c.options.loss_lambda as number),
      queue: normalizedQueue(c.inputs.queue_raw as GoldenTensor),
      queue2: normalizedQueue(c.inputs.queue2_raw as GoldenTensor),
    },
  );
  const pointer = c.options.queue_ptr_before as number;
  const next = (pointer + out.rows!.shape[0]!) % (c.options.queue_len as number);
  const before = ["queue_raw", "queue2_raw"].map((name) => normalizedQueue(c.inputs[name] as GoldenTensor));
  return {
    ...Object.fromEntries(Object.entries(out).map(([k, t]) => [k, t.data as Float32Array])),
    loss_contra_single: out.single!.data as Float32Array,
    loss_contra_dense: out.dense!.data as Float32Array,
    queue_before: columns(before[0]!),
    queue2_before: columns(before[1]!),
    queue_after: columns(queueAfter(before[0]!, out.rows!, pointer)),
    queue2_after: columns(queueAfter(before[1]!, out.rows2!, pointer)),
    queue_ptr_after: [next],
    queue2_ptr_after: [next],
    match_margin_min: c.expect.match_margin_min as number,
  };
}

/** The graph inputs below a value. */
function leaves(v: Value): Value[] {
  if (!v.node) return v.name ? [v] : [];
  return v.node.inputs.flatMap((x) => (x ? leaves(x) : []));
}

/** teacher ← m·teacher + (1 − m)·student of one tensor, by scope.ema */
export async function emaOnce(
  engine: NativeEngine,
  teacher: GoldenTensor,
  student: GoldenTensor,
  momentum: number,
): Promise<number[]> {
  const { scope, collected } = rootScope(dialectOf(engine));
  const m = scope.scalar("m");
  const next = scope
    .ema("teacher", scope.child("student"), m)
    .parameter("w", student.shape, { name: "constant", value: 0 });
  const entry = collected.states.get("teacher.w")!;
  const own = collected.parameters.get("student.w")!.value;
  const out = await evaluate(
    engine,
    [m, entry.input, own],
    { next },
    { m: scalar(momentum), "teacher.w": given(teacher), "student.w": given(student) },
  );
  return Array.from(out.next!.data as Float32Array);
}

export async function emas(
  engine: NativeEngine,
  c: GoldenCase,
  pairs: [name: string, key: string, query: string][],
): Promise<Got> {
  const done = await Promise.all(
    pairs.map(
      async ([name, key, query]) =>
        [
          name,
          await emaOnce(
            engine,
            c.inputs[key] as GoldenTensor,
            c.inputs[query] as GoldenTensor,
            c.options.momentum as number,
          ),
        ] as const,
    ),
  );
  return Object.fromEntries(done);
}

const step: Kind = async (engine, c) => {
  const names = { featQ: "feat_q", featK: "feat_k", q: "q", k: "k", qGrid: "q_grid", kGrid: "k_grid" };
  const tensors = Object.entries(names).map(([own, file]) => [own, c.inputs[file] as GoldenTensor] as const);
  const own = Object.fromEntries(tensors.map(([name, t]) => [name, valueLike(engine, name, t, cellsOf(t))]));
  const feeds = Object.fromEntries(tensors.map(([name, t]) => [name, given({ shape: cellsOf(t), data: t.data })]));
  return {
    ...(await lossOf(engine, c, own, feeds, { q: own.q!, q_grid: own.qGrid! })),
    ...(await emas(engine, c, [
      ["ema_w", "param_k_w", "param_q_w"],
      ["ema_b", "param_k_b", "param_q_b"],
    ])),
  };
};

const neckNames = ["mlp0_w", "mlp0_b", "mlp2_w", "mlp2_b", "conv0_w", "conv0_b", "conv2_w", "conv2_b"];
/** mlp0_w → mlp.0.weight, conv2_b → mlp2.2.bias */
const neckPath = (name: string): string =>
  `${name.startsWith("mlp") ? "mlp" : "mlp2"}.${name.replace(/\D/g, "")}.${name.endsWith("w") ? "weight" : "bias"}`;

const neckStep: Kind = async (engine, c) => {
  const { hid, dim } = c.options as Record<string, number>;
  const { scope, collected } = rootScope(dialectOf(engine));
  const branch = (s: Scope, x: Value) => {
    const { global, dense } = neck(s, x, hid!, dim!);
    return { map: Reshape(x, [0, 0, -1]), global, dense, pooled: ReduceMean(dense, { axes: [2], keepdims: 0 }) };
  };
  const [xq, xk] = ["feat_q", "feat_k"].map((n) => valueLike(engine, n, c.inputs[n] as GoldenTensor)) as [Value, Value];
  const q = branch(scope.child("student"), xq);
  const k = branch(scope.ema("teacher", scope.child("student"), scope.scalar("m")), xk);
  const own = { featQ: q.map, q: q.global, qGrid: q.dense, featK: k.map, k: k.global, kGrid: k.dense };
  const parameter = (name: string) => collected.parameters.get(`student.${neckPath(name)}`)!.value;
  const wrt = { feat_q: xq, ...Object.fromEntries(neckNames.map((n) => [n, parameter(n)])) };
  const feeds: Tensors = {
    feat_q: given(c.inputs.feat_q as GoldenTensor),
    feat_k: given(c.inputs.feat_k as GoldenTensor),
    m: scalar(c.options.momentum as number),
  };
  for (const n of neckNames) {
    feeds[`student.${neckPath(n)}`] = given(c.inputs[n] as GoldenTensor);
    feeds[`teacher.${neckPath(n)}`] = given(c.inputs[`${n}_key`] as GoldenTensor);
  }
  const extra = {
    neck_q_global: q.global,
    neck_q_dense: q.dense,
    neck_q_pooled: q.pooled,
    neck_k_global: k.global,
    neck_k_dense: k.dense,
    neck_k_pooled: k.pooled,
  };
  return {
    ...(await lossOf(engine, c, own, feeds, wrt, extra)),
    ...(await emas(
      engine,
      c,
      neckNames.map((n) => [`ema_${n}`, `${n}_key`, n]),
    )),
  };
};

const neckAlone: Kind = async (engine, c) => {
  const { scope, collected } = rootScope(dialectOf(engine));
  const feat = valueLike(engine, "feat", c.inputs.feat as GoldenTensor);
  const { mlp0_w: hidden, mlp2_w: out } = c.inputs as Record<string, GoldenTensor>;
  const { global, dense } = neck(scope, feat, hidden!.shape[0]!, out!.shape[0]!, c.options.num_grid as number);
  const sum = (x: Value) => ReduceSum(x, { keepdims: 0 });
  const [grad] = gradients(Add(sum(global), sum(Mul(dense, dense))), [feat]);
  const outputs = {
    neck_global: global,
    neck_dense: dense,
    neck_pooled: ReduceMean(dense, { axes: [2], keepdims: 0 }),
    grad_feat_of_sum_global_plus_sum_sq_dense: grad!,
  };
  const weights = Object.fromEntries(neckNames.map((n) => [neckPath(n), given(c.inputs[n] as GoldenTensor)]));
  const got = await evaluate(engine, [feat, ...[...collected.parameters.values()].map((p) => p.value)], outputs, {
    ...weights,
    feat: given(c.inputs.feat as GoldenTensor),
  });
  return Object.fromEntries(Object.entries(got).map(([k, t]) => [k, t.data as Float32Array]));
};

const warmup: Kind = (_engine, c) => {
  const { loss_lambda: value, start_iters: startStep } = c.options as Record<string, number>;
  const iters = c.expect.iters as number[];
  const at = (step: number) =>
    scheduled({ schedule: "delayed", value: value!, startStep: startStep! }, step, { stepsPerEpoch: 100, epochs: 200 });
  return Promise.resolve({ iters, loss_lambda: iters.map(at) });
};

export const ema: Kind = async (engine, c) => {
  const out: Got = {};
  let teacher = c.inputs.k0 as GoldenTensor;
  for (let t = 1; t <= (c.options.steps as number); t++) {
    teacher = {
      shape: teacher.shape,
      data: await emaOnce(engine, teacher, c.inputs[`q${t - 1}`] as GoldenTensor, c.options.momentum as number),
    };
    out[`k${t}`] = teacher.data;
  }
  return out;
};

const queue: Kind = async (engine, c) => {
  const ring = normalizedQueue(c.inputs.queue_raw as GoldenTensor);
  const pointers: number[] = [];
  for (let t = 0; t < (c.options.steps as number); t++) {
    const keys = c.inputs[`keys${t}`] as GoldenTensor;
    const x = input("x", "float32", keys.shape);
    const { rows } = await evaluate(engine, [x], { rows: l2normalize(x) }, { x: given(keys) });
    enqueue(ring, rows!, t);
    pointers.push(((t + 1) * keys.shape[0]!) % ring.shape[0]!);
  }
  return { queue_after: columns(ring), ptr_after_each: pointers };
};

const lr: Kind = (_engine, c) => {
  if (c.variant !== "cosine" || !c.options.by_epoch) return Promise.resolve(undefined);
  const { base_lr: peak, total_epochs: epochs, min_lr: end } = c.options as Record<string, number>;
  const at = (epoch: number) =>
    scheduled({ schedule: "cosine", peak: peak!, end, per: "epoch" }, epoch * 10, {
      stepsPerEpoch: 10,
      epochs: epochs!,
    });
  return Promise.resolve({ epochs: c.expect.epochs as number[], lr: (c.expect.epochs as number[]).map(at) });
};

/** Golden's stand-in backbone: 3×3/2 convolution, BatchNorm, ReLU. */
const standIn =
  (channels: number): Network =>
  (s, image) => {
    const map = Relu(batchNorm(s.child("bn"), conv(s.child("conv"), image, channels, 3, { strides: [2, 2] })));
    return { map, features: ReduceMean(map, { axes: [2, 3], keepdims: 0 }) };
  };
/** 0.conv.weight → backbone.conv.weight, 1.mlp.0.weight → neck.mlp.0.weight */
const ours = (path: string): string => path.replace(/^0\./, "backbone.").replace(/^1\./, "neck.");

function initialFrom(c: GoldenCase): Tensors {
  const out: Tensors = {
    queue: normalizedQueue(c.inputs.queue_raw as GoldenTensor),
    queue2: normalizedQueue(c.inputs.queue2_raw as GoldenTensor),
  };
  for (const [name, t] of Object.entries(c.inputs))
    if (name.startsWith("weight:encoder_q.")) {
      out[`student.${ours(name.slice("weight:encoder_q.".length))}`] = given(t as GoldenTensor);
    }
  return out;
}

function stepFor(engine: NativeEngine, c: GoldenCase, batchSize: number, size: number, optimizerOptions: object) {
  return trainingStep({
    dialect: engine.name,
    method: densecl as never,
    methodOptions: optionsOf(c.options),
    network: standIn(c.options.channels as number),
    optimizer: optimizers.sgd as never,
    optimizerOptions: { ...optimizers.sgd.defaults, ...optimizerOptions },
    batchSize,
    size,
  });
}

/** [N,2,…] → views [2,N,…] */
function viewsOf(images: GoldenTensor): Tensor {
  const [n, v, ...rest] = images.shape as [number, number, ...number[]];
  const size = rest.reduce((a, b) => a * b, 1);
  const out = zeros("float32", [v, n, ...rest]);
  for (let i = 0; i < n; i++)
    for (let k = 0; k < v; k++)
      out.data.set(images.data.slice((i * v + k) * size, (i * v + k + 1) * size), (k * n + i) * size);
  return out;
}

const trainSteps: Kind = async (engine, c) => {
  const o = c.options as Record<string, number>;
  const s = stepFor(engine, c, o.batch!, o.image_size!, { momentum: o.sgd_momentum, weightDecay: o.weight_decay });
  const session = await engine.trainingSession(packageStep(s, initialTensors(s, 0, initialFrom(c)), [engine.name]));
  const out: Got = {};
  for (let t = 0; t < o.steps!; t++) {
    await session.step(
      { views: viewsOf(c.inputs[`img_${t}`] as GoldenTensor) },
      { lr: o.lr!, momentum: o.momentum!, lossLambda: o.loss_lambda! },
    );
    const m = session.metrics();
    out[`loss_${t}`] = m.loss!;
    out[`loss_contra_single_${t}`] = m.lossContraSingle!;
    out[`loss_contra_dense_${t}`] = m.lossContraDense!;
  }
  const tensors = session.tensors();
  session.release();
  for (const name of Object.keys(c.expect)) {
    const match = /^final_(buffer_)?encoder_([qk])\.(.*)$/.exec(name);
    if (match)
      out[name] = tensors[`${match[2] === "q" ? "student" : "teacher"}.${ours(match[3]!)}`]!.data as Float32Array;
  }
  out.queue_after = columns(tensors.queue!);
  out.queue2_after = columns(tensors.queue2!);
  out.queue_ptr_after = [(Number(tensors.step!.data[0]) * o.batch!) % o.queue_len!];
  return out;
};

/** Two devices as two BatchNorm groups of one: losses and gradients are the means over the devices. */
const shuffleBn: Kind = async (engine, c) => {
  const o = c.options as Record<string, number>;
  const b = o.world_size! * o.batch_per_process!;
  const { scope, collected } = rootScope(dialectOf(engine));
  const views = input("views", "float32", [2, b, 3, o.image_size!, o.image_size!], origin(engine));
  const [shuffle, unshuffle] = ["shuffle", "unshuffle"].map((n) => input(n, "int64", [b])) as [Value, Value];
  const own = densecl.embed(
    scope.with({ bnGroups: o.world_size! }),
    standIn(o.channels!),
    { views, shuffle, unshuffle },
    optionsOf(c.options),
  );
  const { loss, metrics } = densecl.loss(scope, own, own, optionsOf(c.options));
  const parameters = [...collected.parameters.values()];
  const grads = gradients(
    loss,
    parameters.map((p) => p.value),
  );
  const states = [...collected.states.values()];
  const permutation = (c.inputs.permutation as GoldenTensor).data;
  const start = initialTensors(
    {
      parameters,
      state: [...collected.states].map(([name, e]) => ({ name, input: e.input, init: e.init, next: e.input })),
    },
    0,
    initialFrom(c),
  );
  const buffers = ["student", "teacher"].flatMap((s) =>
    ["running_mean", "running_var"].map((n) => `${s}.backbone.bn.${n}`),
  );
  const out = await evaluate(
    engine,
    [
      views,
      shuffle,
      unshuffle,
      ...collected.scalars.values(),
      ...parameters.map((p) => p.value),
      ...states.map((e) => e.input),
    ],
    {
      loss,
      single: metrics.lossContraSingle!,
      dense: metrics.lossContraDense!,
      rows: collected.states.get("queue")!.rows!,
      rows2: collected.states.get("queue2")!.rows!,
      ...Object.fromEntries(buffers.map((n) => [`${n}.next`, collected.states.get(n)!.next!])),
      ...Object.fromEntries(parameters.map((p, i) => [`grad ${p.name}`, grads[i]!])),
    },
    {
      ...start,
      views: viewsOf(c.inputs.img as GoldenTensor),
      shuffle: tensor("int64", [b], permutation),
      unshuffle: tensor(
        "int64",
        [b],
        permutation.map((_, i) => permutation.indexOf(i)),
      ),
      momentum: scalar(o.momentum!),
      lossLambda: scalar(o.loss_lambda!),
    },
  );
  const mean = (name: string): number =>
    (c.expect[name].data ?? c.expect[name]).reduce((a: number, v: number) => a + v, 0) / o.world_size!;
  // one number a device is expected; ours is the mean of them: shift the expected pair to it
  const perProcess = (name: string, got: Tensor): number[] =>
    (c.expect[name].data ?? c.expect[name]).map((v: number) => v - mean(name) + Number(got.data[0]));
  const result: Got = {
    loss_per_process: perProcess("loss_per_process", out.loss!),
    single_per_process: perProcess("single_per_process", out.single!),
    dense_per_process: perProcess("dense_per_process", out.dense!),
    queue_after: columns(queueAfter(start.queue!, out.rows!, 0)),
    queue2_after: columns(queueAfter(start.queue2!, out.rows2!, 0)),
    queue_ptr_after: [b % o.queue_len!],
  };
  for (const p of parameters)
    result[`grad_mean_${p.name.replace("student.backbone", "0").replace("student.neck", "1")}`] = out[`grad ${p.name}`]!
      .data as Float32Array;
  // the first device's buffers are the ones that are kept
  for (const name of Object.keys(c.expect)) {
    const match = /^encoder_([qk])_0\.bn\.(running_\w+)_per_process$/.exec(name);
    if (!match) continue;
    const first = Array.from(
      out[`${match[1] === "q" ? "student" : "teacher"}.backbone.bn.${match[2]}.next`]!.data as Float32Array,
    );
    result[name] = [...first, ...(c.expect[name].data as number[]).slice(first.length)];
  }
  return result;
};

export const denseclKinds: Record<string, Kind> = {
  step,
  neckStep,
  neck: neckAlone,
  warmup,
  ema,
  queue,
  lr,
  trainSteps,
  shuffleBn,
};
