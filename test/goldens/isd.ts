/** ISD against the authors' code: loss, heads, teacher, queue, schedules and steps on golden's inputs. */
import { batchNorm, l2normalize, linear } from "../../graphs/layers.js";
import { distill, isd } from "../../graphs/methods/isd.js";
import type { Network } from "../../graphs/methods/index.js";
import { optimizers } from "../../graphs/optimizers.js";
import { trainingStep } from "../../graphs/step.js";
import { gradients } from "../../src/autodiff.js";
import { packageStep } from "../../src/artifacts/index.js";
import { enqueue } from "./queue.js";
import type { NativeEngine } from "../../src/engines/native/index.js";
import { input, type Value } from "../../src/onnx/graph.js";
import { Relu, Reshape } from "../../src/ops/index.js";
import { scheduled, type Schedule } from "../../src/schedules.js";
import { initialTensors, normalizeColumns, normalizeRows } from "../../src/step.js";
import { scalar, tensor, type Tensor, type Tensors } from "../../src/tensor.js";
import { evaluate } from "../evaluate.js";
import { given, type GoldenCase, type GoldenTensor, type Got, type Kind } from "./case.js";
import { emas, queueAfter, valueLike } from "./densecl.js";

/** A raw queue [K, P] with unit rows. */
function unitRows(raw: GoldenTensor): Tensor<"float32"> {
  const queue = tensor("float32", raw.shape, raw.data);
  normalizeRows(queue.data, raw.shape[1]!);
  return queue;
}
const inputsOf = (c: GoldenCase) => c.inputs as Record<string, GoldenTensor>;
const plain = (tensors: Tensors): Got =>
  Object.fromEntries(Object.entries(tensors).map(([k, t]) => [k, t.data as Float32Array]));

/** Share of the five nearest queue entries that have the key's label: the authors log it; a run here has no labels. */
function purity(similarities: Tensor, labels: readonly number[], queueLabels: readonly number[]): number {
  const [b, k] = similarities.shape as [number, number];
  const shares = labels.map((label, i) => {
    const row = Array.from(similarities.data as Float32Array).slice(i * k, (i + 1) * k);
    const nearest = row
      .map((s, j) => [s, j] as const)
      .sort((x, y) => y[0] - x[0])
      .slice(0, 5);
    return nearest.filter(([, j]) => queueLabels[j] === label).length / 5;
  });
  return shares.reduce((a, v) => a + v, 0) / b;
}

const step: Kind = async (engine, c) => {
  const o = c.options as Record<string, number>;
  const values = inputsOf(c);
  const [q, k, queue] = [
    valueLike(engine, "q", values.q!),
    valueLike(engine, "k", values.k!),
    valueLike(engine, "queue", values.queue_raw!),
  ];
  const { loss, student, teacher, crossEntropy, teacherEntropy } = distill(q, k, queue, {
    studentTemp: o.temp_s!,
    teacherTemp: o.temp_t!,
  });
  const [gq] = gradients(loss, [q]);
  const [gs] = gradients(loss, [student]);
  const before = unitRows(values.queue_raw!);
  const out = await evaluate(
    engine,
    [q, k, queue],
    {
      loss,
      logits_student: student,
      logits_teacher: teacher,
      cross_entropy: crossEntropy,
      teacher_entropy: teacherEntropy,
      grad_q: gq!,
      grad_logits_student: gs!,
      rows: l2normalize(k),
    },
    { q: given(values.q!), k: given(values.k!), queue: before },
  );
  const pointer = o.queue_ptr_before!;
  const { labels, queue_labels: queueLabels } = values;
  return {
    ...plain(out),
    queue_before: before.data,
    queue_after: queueAfter(before, out.rows!, pointer).data as Float32Array,
    queue_ptr_after: [(pointer + o.batch!) % o.queue_len!],
    purity: purity(out.logits_teacher!, labels!.data, queueLabels!.data),
    queue_labels_after: queueAfter(given(queueLabels!), given(labels!), pointer).data as Float32Array,
    ...(await emas(engine, c, [["ema_w", "param_k_w", "param_q_w"]])),
  };
};

/** A step on rows of `width` numbers, which the backbone gets as pixels of one place. */
function stepOn(
  engine: NativeEngine,
  c: GoldenCase,
  width: number,
  network: Network,
  sgd: { momentum: number; weightDecay: number },
) {
  const o = c.options as Record<string, number>;
  return trainingStep({
    dialect: engine.name,
    method: isd as never,
    methodOptions: {
      ...isd.defaults,
      variant: c.variant,
      queueSize: o.queue_len,
      studentTemp: o.temp_s,
      teacherTemp: o.temp_t,
      bnGroups: 1,
    },
    network,
    optimizer: optimizers.sgd as never,
    optimizerOptions: { ...optimizers.sgd.defaults, ...sgd },
    batchSize: o.batch!,
    size: 1,
    channels: width,
  });
}
const asImages = (t: GoldenTensor): Tensor => tensor("float32", [1, ...t.shape, 1, 1], t.data);
const rowsOf = (image: Value): Value => Reshape(image, [image.shape[0] as number, -1]);

/** proj_0.weight → student.projector.0.weight, proj_key_0.weight → teacher.projector.0.weight, pred_… → student.predictor.… */
const headPath = (name: string): string =>
  name
    .replace(/^proj_key_/, "teacher.projector.")
    .replace(/^proj_/, "student.projector.")
    .replace(/^pred_/, "student.predictor.");

const headsStep: Kind = async (engine, c) => {
  const o = c.options as Record<string, number> & { sgd: { lr: number; momentum: number; weight_decay: number } };
  const features: Network = (_s, image) => ({ features: rowsOf(image), map: image });
  const s = stepOn(engine, c, o.feat_dim!, features, { momentum: o.sgd.momentum, weightDecay: o.sgd.weight_decay });
  const weights = Object.entries(inputsOf(c)).filter(([name]) => /^(proj|pred)/.test(name));
  const start: Tensors = {
    ...initialTensors(s, 0, {
      ...Object.fromEntries(weights.map(([name, t]) => [headPath(name), given(t)])),
      queue: unitRows(inputsOf(c).queue_raw!),
    }),
    step: scalar(o.queue_ptr_before! / o.batch!, "int64"),
  };
  const views = { student: asImages(inputsOf(c).feat_q!), teacher: asImages(inputsOf(c).feat_k!) };
  const out: Got = {};

  const [dx] = gradients(s.loss, [s.inputs.find((v) => v.name === "student")!]);
  const grads = await evaluate(
    engine,
    [...s.inputs, ...s.scalars, ...s.parameters.map((p) => p.value), ...s.state.map((x) => x.input)],
    { loss: s.loss, grad_feat_q: dx!, ...Object.fromEntries([...s.gradients].map(([p, g]) => [`grad ${p.name}`, g])) },
    { ...start, ...views, lr: scalar(o.sgd.lr), momentum: scalar(o.momentum!) },
  );
  const session = await engine.trainingSession(packageStep(s, start, [engine.name]));
  await session.step(views, { lr: o.sgd.lr, momentum: o.momentum! });
  const after = session.tensors();
  session.release();
  for (const k of Object.keys(c.expect)) {
    const [, what, name] = /^(grad|ema|buffer|after_sgd)_(.*)$/.exec(k) ?? [];
    if (!what || k === "grad_feat_q") continue;
    out[k] = (what === "grad" ? grads[`grad ${headPath(name!)}`] : after[headPath(name!)])!.data as Float32Array;
  }
  return {
    ...out,
    loss: grads.loss!.data as Float32Array,
    grad_feat_q: grads.grad_feat_q!.data as Float32Array,
    queue_after: after.queue!.data as Float32Array,
    queue_ptr_after: [(Number(after.step!.data[0]) * o.batch!) % o.queue_len!],
  };
};

const queueInit: Kind = (_engine, c) => {
  const raw = inputsOf(c).queue_raw!;
  const columns = tensor("float32", raw.shape, raw.data);
  normalizeColumns(columns.data, raw.shape[1]!);
  return Promise.resolve({ rows_dim1_plus: unitRows(raw).data, columns_dim0_v1_and_r18: columns.data });
};

const queue: Kind = async (engine, c) => {
  const o = c.options as Record<string, number>;
  const ring = unitRows(inputsOf(c).queue_raw!);
  const labels = tensor("float32", [o.queue_len!], Array<number>(o.queue_len!).fill(-1));
  const pointers: number[] = [];
  for (let t = 0; t < o.steps!; t++) {
    const keys = inputsOf(c)[`keys${t}`]!;
    const x = input("x", "float32", keys.shape);
    const { rows } = await evaluate(engine, [x], { rows: l2normalize(x) }, { x: given(keys) });
    enqueue(ring, rows!, t);
    enqueue(labels, tensor("float32", [o.batch!], Array<number>(o.batch!).fill(t)), t);
    pointers.push(((t + 1) * o.batch!) % o.queue_len!);
  }
  return { queue_after: ring.data, queue_labels_after: labels.data, ptr_after_each: pointers };
};

const lr: Kind = (_engine, c) => {
  const o = c.options as Record<string, number> & { cos: boolean; lr_decay_epochs: number[] };
  const form: Schedule = o.cos
    ? { schedule: "cosine", peak: o.learning_rate!, per: "epoch" }
    : { schedule: "step", peak: o.learning_rate!, milestones: o.lr_decay_epochs, gamma: o.lr_decay_rate };
  const epochs = c.expect.epochs as number[];
  const at = (epoch: number) =>
    scheduled(form, 10 * (epoch - o.epoch_counter_starts_at!), { stepsPerEpoch: 10, epochs: o.epochs! });
  return Promise.resolve({ epochs, lr: epochs.map(at) });
};

/** encoder_q.lin.weight → student.backbone.lin.weight, encoder_q.fc.0.bias → student.projector.0.bias, predict_q.… → student.predictor.… */
const modelPath = (name: string): string =>
  name
    .replace(/^predict_q\./, "student.predictor.")
    .replace(/^encoder_q\.fc\./, "student.projector.")
    .replace(/^encoder_k\.fc\./, "teacher.projector.")
    .replace(/^encoder_q\./, "student.backbone.")
    .replace(/^encoder_k\./, "teacher.backbone.");

const trainSteps: Kind = async (engine, c) => {
  const o = c.options as Record<string, number>;
  const encoder: Network = (s, image) => {
    const features = Relu(batchNorm(s.child("bn"), linear(s.child("lin"), rowsOf(image), o.feat_dim!)));
    return { features, map: features };
  };
  const s = stepOn(engine, c, o.in_dim!, encoder, { momentum: o.sgd_momentum!, weightDecay: o.weight_decay! });
  const weights = Object.entries(inputsOf(c)).flatMap(([name, t]) =>
    name.startsWith("weight:") ? [[modelPath(name.slice("weight:".length)), given(t)] as const] : [],
  );
  const start = initialTensors(s, 0, { ...Object.fromEntries(weights), queue: unitRows(inputsOf(c).queue_raw!) });
  const session = await engine.trainingSession(packageStep(s, start, [engine.name]));
  const out: Got = {};
  for (let t = 0; t < o.steps!; t++) {
    const views = { student: asImages(inputsOf(c)[`im_q_${t}`]!), teacher: asImages(inputsOf(c)[`im_k_${t}`]!) };
    await session.step(views, { lr: o.lr!, momentum: o.momentum! });
    out[`loss_${t}`] = session.metrics().loss!;
  }
  const tensors = session.tensors();
  session.release();
  for (const k of Object.keys(c.expect)) {
    const name = /^final_(?:buffer_)?(.*)$/.exec(k)?.[1];
    if (name) out[k] = tensors[modelPath(name)]!.data as Float32Array;
  }
  return {
    ...out,
    queue_after: tensors.queue!.data as Float32Array,
    queue_ptr_after: [(Number(tensors.step!.data[0]) * o.batch!) % o.queue_len!],
  };
};

export const isdKinds: Record<string, Kind> = { step, headsStep, queueInit, queue, lr, trainSteps };
