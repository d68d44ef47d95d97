/** APS against the authors' code: loss, patch sampler, crops, schedules and steps on golden's inputs. */
import { drawCrop, type Box } from "../../graphs/augment.js";
import { boundNetwork } from "../../graphs/encoder.js";
import { aps, unseen, unseenAfterFlips, withoutReplacement } from "../../graphs/methods/aps.js";
import { inBatch } from "../../graphs/methods/mocov3.js";
import { optimizers } from "../../graphs/optimizers.js";
import { rootScope } from "../../graphs/scope.js";
import { trainingStep } from "../../graphs/step.js";
import { gradients } from "../../src/autodiff.js";
import { packageStep } from "../../src/artifacts/index.js";
import type { Value } from "../../src/onnx/graph.js";
import { Add } from "../../src/ops/index.js";
import type { Random } from "../../src/random.js";
import { scheduled } from "../../src/schedules.js";
import { initialTensors } from "../../src/step.js";
import { tensor, type Tensor, type Tensors } from "../../src/tensor.js";
import { evaluate } from "../evaluate.js";
import { given, norm, stacked, type GoldenTensor, type Got, type Kind } from "./case.js";
import { dialectOf, valueLike } from "./densecl.js";

const loss: Kind = async (engine, c) => {
  const tensors = Object.entries(c.inputs as Record<string, GoldenTensor>);
  const v = Object.fromEntries(tensors.map(([name, t]) => [name, valueLike(engine, name, t)]));
  const { temp, offset, distributed } = c.options as { temp: number; offset: number; distributed: boolean };
  const [z1, z2] = (distributed ? [v.z1_all, v.z2_all] : [v.z1, v.z2]) as [Value, Value];
  const [one, two] = [inBatch(v.p1!, z2, temp, offset), inBatch(v.p2!, z1, temp, offset)];
  // on one device the method's own; a device among several knows its rank, and so its rows
  const own = { p1: v.p1!, p2: v.p2!, z1, z2 };
  const { scope } = rootScope(dialectOf(engine));
  const whole = distributed
    ? { loss: Add(one.loss, two.loss), metrics: {} }
    : aps.loss(scope, own, own, { ...aps.defaults, temperature: temp });
  const [grad_p1, grad_p2] = gradients(whole.loss, [v.p1!, v.p2!]);
  const out = await evaluate(
    engine,
    Object.values(v),
    {
      loss: whole.loss,
      loss1: one.loss,
      loss2: two.loss,
      similarity1: one.similarity,
      similarity2: two.similarity,
      grad_p1: grad_p1!,
      grad_p2: grad_p2!,
      ...("positive" in whole.metrics && { similarity: whole.metrics.positive }),
    },
    Object.fromEntries(tensors.map(([name, t]) => [name, given(t)])),
  );
  return Object.fromEntries(Object.entries(out).map(([k, t]) => [k, t.data as Float32Array]));
};

const box = ([top, left, height, width]: readonly number[]): Box => ({
  top: top!,
  left: left!,
  height: height!,
  width: width!,
});
/** The authors' random numbers handed out one by one, and those that were asked for. */
function scripted(numbers: readonly number[]): { next: () => number; used: number[] } {
  const used: number[] = [];
  return { next: () => (used.push(numbers[used.length]!), used.at(-1)!), used };
}

/** View 2's patches for the kept ones of view 1, from recorded uniforms. */
function selected(c: Parameters<Kind>[1], kept: readonly number[], rounds: readonly GoldenTensor[]) {
  const {
    ngrid,
    power,
    flip1 = false,
    flip2 = false,
    official = true,
  } = c.options as {
    ngrid: number;
    power: number;
    flip1?: boolean;
    flip2?: boolean;
    official?: boolean;
  };
  const [crop1, crop2] = [box(c.inputs.box1 as number[]), box(c.inputs.box2 as number[])];
  const rho = official
    ? unseen(crop1, crop2, kept, ngrid)
    : unseenAfterFlips({ crop: crop1, flip: flip1 }, { crop: crop2, flip: flip2 }, kept, ngrid);
  const weight = rho.map((v) => v ** power);
  const uniforms = scripted(rounds.flatMap((r) => r.data));
  const picked = withoutReplacement(weight, kept.length, uniforms.next);
  return { rho, weight, picked, used: uniforms.used };
}

const select: Kind = (_engine, c) => {
  const rounds = c.expect.uniforms_per_round as GoldenTensor[];
  const { rho, weight, picked, used } = selected(c, (c.inputs.idx_view1 as GoldenTensor).data, rounds);
  return Promise.resolve({
    non_overlap_ratio: rho,
    weight,
    sum_weight: weight.reduce((a, b) => a + b, 0),
    zeros: weight.filter((w) => w === 0).length,
    idx_view2: picked,
    uniforms_per_round: used,
  });
};

const sequence: Kind = (_engine, c) => {
  const { ngrid, sampling_ratio, time } = c.options as Record<string, number>;
  const n = Math.floor(ngrid! ** 2 * sampling_ratio!);
  const order = (c.inputs.permutation as GoldenTensor).data;
  const idxs1 = Array.from({ length: time! }, (_, t) => order.slice(n * t, n * (t + 1)));
  const uniforms = c.expect.uniforms_per_time_and_round as GoldenTensor[][];
  const draws = idxs1.map((kept, t) => selected(c, kept, uniforms[t]!));
  return Promise.resolve({
    idxs1: idxs1.flat(),
    idxs2: draws.flatMap((d) => d.picked),
    uniforms_per_time_and_round: draws.flatMap((d) => d.used),
  });
};

const crop: Kind = (_engine, c) => {
  const o = c.options as { height: number; width: number; scale: [number, number]; ratio: [number, number] };
  const attempts = c.inputs.attempts as { area_fraction: number; log_ratio: number }[];
  const draws = scripted(attempts.flatMap((a) => [a.area_fraction, a.log_ratio]));
  const offsets = scripted((c.inputs.offset_draws as { value: number }[]).map((d) => d.value));
  const random = { uniform: draws.next, integer: offsets.next } as Pick<Random, "uniform" | "integer">;
  const got = drawCrop(random as Random, o.width, o.height, { scale: o.scale, ratio: o.ratio });
  return Promise.resolve({
    box: [got.top, got.left, got.height, got.width],
    fallback: Number(offsets.used.length === 0),
  });
};

const lr: Kind = (_engine, c) => {
  const o = c.options as Record<string, number>;
  const epochs = c.expect.epochs as number[];
  const horizon = { stepsPerEpoch: 4, epochs: (o.nepoch ?? o.epochs)! };
  const at = (schedule: Parameters<typeof scheduled>[0], epoch: number) => scheduled(schedule, 4 * epoch, horizon);
  if (c.variant === "pretrain") {
    const peak = (o.lr_base! * o.batch!) / 256;
    const form = {
      schedule: "cosine",
      peak,
      warmupEpochs: o.warmup_epoch,
      per: "epoch",
      from: "start",
      capped: true,
    } as const;
    return Promise.resolve({ epochs, lr: epochs.map((e) => at(form, e)) });
  }
  const form = {
    schedule: "cosine",
    peak: o.lr!,
    end: o.min_lr,
    warmupStart: o.warmup_lr,
    warmupEpochs: o.warmup_epochs,
    warmup: "fromZero",
    per: "epoch",
    from: "start",
  } as const;
  // the authors' loop sets the rate of an epoch after it, so each epoch runs at the rate of the one before
  return Promise.resolve({ epochs, lr: epochs.map((e) => at(form, Math.max(0, e - 1))) });
};

/** base_encoder.fc.0.weight → student.projector.0.weight, base_encoder.X → student.backbone.X, predictor.X → student.predictor.X */
const ours = (name: string): string =>
  name
    .replace(/^base_encoder\.fc\./, "student.projector.")
    .replace(/^base_encoder\./, "student.backbone.")
    .replace(/^predictor\./, "student.predictor.");

/** [token, image] of step t as [image, token] */
function tokensAt(t: GoldenTensor, step: number): Tensor {
  const [, n, b] = t.shape as [number, number, number];
  const at = (i: number) => t.data[step * n * b + (i % n) * b + Math.floor(i / n)]!;
  return tensor(
    "int64",
    [b, n],
    Array.from({ length: n * b }, (_, i) => at(i)),
  );
}

const trainSteps: Kind = async (engine, c) => {
  const o = c.options as Record<string, number>;
  const grid = o.image_size! / o.patch!;
  const step = trainingStep({
    dialect: engine.name,
    method: aps as never,
    methodOptions: {
      ...aps.defaults,
      temperature: o.temp,
      hiddenDim: o.mlp_dim,
      outDim: o.dim,
      grid,
      keepRatio: o.tokens_kept! / grid ** 2,
    },
    network: boundNetwork("vitTiny", {
      embedDim: o.emb_dim,
      depth: o.num_layer,
      numHeads: o.num_head,
      patchSize: o.patch,
    }),
    optimizer: optimizers.adamw as never,
    optimizerOptions: { beta1: o.beta1, beta2: o.beta2, epsilon: o.eps, weightDecay: o.weight_decay, exclude: "none" },
    batchSize: o.batch!,
    size: o.image_size!,
  });
  const weights: Tensors = Object.fromEntries(
    Object.entries(c.inputs as Record<string, GoldenTensor>).flatMap(([name, t]) =>
      name.startsWith("weight:") ? [[ours(name.slice("weight:".length)), given(t)]] : [],
    ),
  );
  const initial = initialTensors(step, 0, weights);
  const views = stacked([c.inputs.image1 as GoldenTensor, c.inputs.image2 as GoldenTensor]);
  const tokens = (t: number) => ({
    tokens1: tokensAt(c.inputs.idxs1 as GoldenTensor, t),
    tokens2: tokensAt(c.inputs.idxs2 as GoldenTensor, t),
  });
  const out: Got = {};

  const wanted = Object.keys(c.expect).filter((k) => k.startsWith("grad0_"));
  const gradientOf = (name: string) =>
    [...step.gradients].find(([p]) => p.name === ours(name.slice("grad0_".length)))![1];
  const grads = await evaluate(
    engine,
    [...step.inputs, ...step.scalars, ...step.parameters.map((p) => p.value), ...step.state.map((s) => s.input)],
    { loss: step.loss, ...Object.fromEntries(wanted.map((k) => [k, gradientOf(k)])) },
    { ...initial, views, ...tokens(0), lr: tensor("float32", [], [o.lr!]) },
  );
  for (const k of wanted) out[k] = grads[k]!.data as Float32Array;

  const session = await engine.trainingSession(packageStep(step, initial, [engine.name]));
  for (let t = 0; t < o.steps!; t++) {
    await session.step({ views, ...tokens(t) }, { lr: o.lr! });
    const m = session.metrics();
    Object.assign(out, {
      [`loss_${t}`]: m.loss,
      [`loss1_${t}`]: m.loss1,
      [`loss2_${t}`]: m.loss2,
      [`similarity_${t}`]: m.positive,
    });
  }
  const tensors = session.tensors();
  session.release();
  for (const k of Object.keys(c.expect)) {
    const match = /^final_(l2_|buffer_)?(.*)$/.exec(k);
    if (!match) continue;
    const data = tensors[ours(match[2]!)]!.data as Float32Array;
    out[k] = match[1] === "l2_" ? norm(data) : data;
  }
  return out;
};

export const apsKinds: Record<string, Kind> = { loss, select, sequence, crop, lr, trainSteps };
