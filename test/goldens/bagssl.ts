/** BagSSL, EMP-SSL, NMCE and VICReg against their authors' code: losses, gradients, bags of patches, schedules and steps. */
import { batchNorm, l2normalize, linear } from "../../graphs/layers.js";
import { covarianceRegularised, pairsOf, spectral } from "../../graphs/methods/bagssl.js";
import type { Method, Network } from "../../graphs/methods/index.js";
import { agreement, codingLoss, pairAgreement, tcr } from "../../graphs/methods/tcr.js";
import { vicreg, vicregLoss } from "../../graphs/methods/vicreg.js";
import { bagMean, knnModel } from "../../graphs/knn.js";
import { optimizers } from "../../graphs/optimizers.js";
import { trainingStep } from "../../graphs/step.js";
import { codingRate } from "../../graphs/codingRate.js";
import { packageStep } from "../../src/artifacts/index.js";
import { dims, type Value } from "../../src/onnx/graph.js";
import { Concat, Neg, ReduceMean, Relu, Reshape, Unsqueeze } from "../../src/ops/index.js";
import { scheduled, type Schedule } from "../../src/schedules.js";
import { initialTensors } from "../../src/step.js";
import { tensor, type Tensor, type Tensors } from "../../src/tensor.js";
import { evaluate } from "../evaluate.js";
import { given, type GoldenCase, type GoldenTensor, type Got, type Kind } from "./case.js";
import { graded, inputsOf } from "./graded.js";

type Losses = { outputs: Record<string, Value>; wanted: Record<string, [Value, Value]> };
const mean = (x: Value): Value => ReduceMean(x, { keepdims: 0 });
const ofOne = (x: Value): Value => Unsqueeze(x, [0]);

/** What each variant computes from the case's inputs. */
const forms: Record<string, (v: Record<string, Value>, o: Record<string, number>) => Losses> = {
  emp_ssl({ z }, { patch_sim, tcr: rate, eps }) {
    const unit = l2normalize(z!);
    const cosine = agreement(unit);
    const { loss, metrics } = codingLoss(unit, cosine, { similarity: patch_sim!, rate: rate!, epsilon: eps! });
    const contract = Neg(cosine);
    return {
      outputs: {
        loss,
        loss_tcr: metrics.tcrLoss,
        loss_contract: contract,
        cosine,
        bag_average_normalised_z: bagMean(unit),
      },
      wanted: {
        grad_z: [loss, z!],
        grad_tcr_z: [metrics.tcrLoss, z!],
        grad_contract_z: [contract, z!],
        grad_normalised: [loss, unit],
      },
    };
  },
  nmce_two_view_tcr({ z1, z2 }, { eps, z_weight }) {
    const unit = l2normalize(Concat([ofOne(z1!), ofOne(z2!)], { axis: 0 }));
    const cosine = pairAgreement(unit);
    const { loss, metrics } = codingLoss(unit, cosine, { similarity: z_weight!, rate: 1, epsilon: eps! });
    return {
      outputs: { loss, loss_tcr: metrics.tcrLoss, loss_z: Neg(cosine), cosine },
      wanted: { grad_z1: [loss, z1!], grad_z2: [loss, z2!] },
    };
  },
  tcr({ z }, { eps }) {
    const unit = l2normalize(z!);
    const rate = mean(codingRate(ofOne(unit), eps!));
    const loss = Neg(rate);
    return {
      outputs: { loss, coding_rate: rate },
      wanted: { grad_z: [loss, z!], grad_normalised: [loss, unit], closed_form_grad_normalised: [loss, unit] },
    };
  },
  vicreg({ x, y }, { sim_coeff, std_coeff, cov_coeff }) {
    const coefficients = { simCoeff: sim_coeff!, stdCoeff: std_coeff!, covCoeff: cov_coeff! };
    const { loss, metrics } = vicregLoss(Concat([ofOne(x!), ofOne(y!)], { axis: 0 }), coefficients);
    return {
      outputs: { loss, repr_loss: metrics.reprLoss, std_loss: metrics.stdLoss, cov_loss: metrics.covLoss },
      wanted: { grad_x: [loss, x!], grad_y: [loss, y!] },
    };
  },
  vicreg_all_pairs_mean({ z }) {
    const { loss } = vicregLoss(z!, vicreg.defaults);
    return { outputs: { loss }, wanted: { grad_z: [loss, z!] } };
  },
  spectral({ z1, z2 }, { lam }) {
    const z = l2normalize(Concat([ofOne(z1!), ofOne(z2!)], { axis: 0 }));
    const s = spectral(pairsOf(z), lam!);
    const c = covarianceRegularised(z, lam!);
    return {
      outputs: {
        spectral_loss: s.loss,
        spectral_attraction: s.metrics.attraction,
        spectral_repulsion: s.metrics.repulsion,
        covariance_loss: c.loss,
      },
      wanted: {
        grad_spectral_z1: [s.loss, z1!],
        grad_spectral_z2: [s.loss, z2!],
        grad_covariance_z1: [c.loss, z1!],
        grad_covariance_z2: [c.loss, z2!],
      },
    };
  },
};

const loss: Kind = async (engine, c) => {
  const form = forms[c.variant];
  if (!form) return undefined;
  const { values, feeds } = inputsOf(engine, c.inputs as Record<string, GoldenTensor>);
  const { outputs, wanted } = form(values, c.options);
  return graded(engine, Object.values(values), feeds, outputs, wanted);
};

/** Features of patches averaged, then nearest neighbours on the unit averages. */
const bag: Kind = async (engine, c) => {
  const o = c.options as Record<string, number>;
  const { values, feeds } = inputsOf(engine, {
    train: c.inputs.train_patch_features as GoldenTensor,
    test: c.inputs.test_patch_features as GoldenTensor,
  });
  const [train, test] = [bagMean(values.train!), bagMean(values.test!)];
  const bags = await evaluate(
    engine,
    Object.values(values),
    { bagTrain: train, bagTest: test, bank: l2normalize(train), queries: l2normalize(test) },
    feeds,
  );
  const [bankLabels, labels] = [c.inputs.train_labels, c.inputs.test_labels].map((t) =>
    given(t as GoldenTensor, "int64"),
  );
  const {
    n_train: bank,
    dim: width,
    classes,
    k,
    T: temperature,
  } = o as Record<"n_train" | "dim" | "classes" | "k" | "T", number>;
  const session = await engine.session(
    knnModel({ bank, width, classes, k: [k], temperature, vote: "weighted", leaveOneOut: false }),
  );
  const { scores, neighbors } = await session.run({
    queries: bags.queries!,
    bank: bags.bank!,
    bankLabels: bankLabels!,
    labels: labels!,
  });
  session.release();
  const rows = Array.from({ length: o.n_test! }, (_, i) =>
    Array.from((scores!.data as Float32Array).slice(i * o.classes!, (i + 1) * o.classes!)),
  );
  const prediction = rows.map((row) => row.indexOf(Math.max(...row)));
  const truth = (c.inputs.test_labels as GoldenTensor).data;
  const within = (n: number): number =>
    (100 * rows.filter((row, i) => row.filter((v) => v > row[truth[i]!]!).length < n).length) / rows.length;
  return {
    bag_train: bags.bagTrain!.data as Float32Array,
    bag_test: bags.bagTest!.data as Float32Array,
    bag_train_normalised: bags.bank!.data as Float32Array,
    bag_test_normalised: bags.queries!.data as Float32Array,
    knn_neighbours: neighbors!.data,
    knn_class_scores: rows.flatMap((row) => row.map((v) => v / row.reduce((a, b) => a + b, 0))),
    knn_prediction: prediction,
    knn_top1: within(1),
    knn_top5: within(5),
  };
};

/** VICReg's: linear from 0 to base·batch/256, then cosine to a thousandth of it. */
const vicregSchedule = ({
  base_lr,
  batch,
  end_factor = 0.001,
  warmup_epochs = 10,
}: Record<string, number>): Schedule => {
  const peak = (base_lr! * batch!) / 256;
  return { schedule: "cosine", peak, end: peak * end_factor, warmupEpochs: warmup_epochs, warmup: "fromZero" };
};
/**
 * NMCE's: the warm-up overwrites torch's recursive cosine, which goes on from what it finds at the last warm-up epoch: from there
 * on a cosine over the whole run that passes through lr at that epoch.
 */
const nmceRate = (o: Record<string, number>, epoch: number): number => {
  const horizon = { stepsPerEpoch: 1, epochs: o.epochs! };
  const whole = (peak: number, at: number) => scheduled({ schedule: "cosine", peak }, at, horizon);
  const warm: Schedule = { schedule: "cosine", peak: o.lr!, warmupEpochs: o.warmup_epochs };
  return epoch < o.warmup_epochs!
    ? scheduled(warm, epoch, horizon)
    : whole(o.lr! / whole(1, o.warmup_epochs! - 1), epoch);
};

const lr: Kind = (_engine, c) => {
  const o = c.options as Record<string, number>;
  const rates: Record<string, ((t: number) => number) | undefined> = {
    vicreg: (t) => scheduled(vicregSchedule(o), t, { stepsPerEpoch: o.steps_per_epoch!, epochs: o.epochs! }),
    emp_ssl: (t) => scheduled({ schedule: "cosine", peak: o.lr! }, t, { stepsPerEpoch: 1, epochs: o.T_max! }),
    nmce: (t) => nmceRate(o, t),
  };
  const rate = rates[c.variant];
  const at = "steps" in c.expect ? "steps" : "epochs";
  const places = c.expect[at] as number[];
  return Promise.resolve(rate && { [at]: places, lr: places.map(rate) });
};

/** Golden's stand-in backbone on rows: Linear, BatchNorm, ReLU. Rows [B,in] enter as images [B,in,1,1]. */
export const standIn =
  (width: number): Network =>
  (s, image) => {
    const rows = Reshape(image, dims(image).slice(0, 2));
    const features = Relu(batchNorm(s.child("bn"), linear(s.child("lin"), rows, width)));
    return { map: Reshape(features, [...dims(features), 1, 1]), features };
  };

/** Rows of golden's inputs as one view [count,B,in,1,1]. */
export const rowsAsView = (tensors: readonly GoldenTensor[]): Tensor => {
  const [b, width] = tensors[0]!.shape as [number, number];
  return tensor(
    "float32",
    [tensors.length, b, width, 1, 1],
    tensors.flatMap((t) => t.data),
  );
};

/** final_NAME and final_buffer_NAME of a case, read from a session's tensors by our names. */
export function finals(c: GoldenCase, tensors: Tensors, ours: (name: string) => string): Got {
  const names = Object.keys(c.expect).filter((n) => n.startsWith("final_"));
  return Object.fromEntries(
    names.map((n) => [n, tensors[ours(n.replace(/^final_(buffer_)?/, ""))]!.data as Float32Array]),
  );
}

/** weight:NAME of a case by our names. */
export const weights = (c: GoldenCase, ours: (name: string) => string): Tensors =>
  Object.fromEntries(
    Object.entries(c.inputs as Record<string, GoldenTensor>).flatMap(([n, t]) =>
      n.startsWith("weight:") ? [[ours(n.slice("weight:".length)), given(t)]] : [],
    ),
  );

const student = (name: string): string => `student.${name}`;

const trainSteps: Kind = async (engine, c) => {
  const o = c.options as Record<string, number>;
  const emp = c.variant === "emp";
  if (!emp && c.variant !== "vicreg") return undefined;
  const method = (emp ? tcr : vicreg) as unknown as Method<object>;
  const expander = String(o.expander ?? "")
    .split("-")
    .map(Number);
  const methodOptions = emp
    ? {
        ...tcr.defaults,
        ...tcr.released!(tcr.defaults),
        patches: o.patches!,
        similarity: o.patch_sim!,
        rate: o.tcr!,
        epsilon: o.eps!,
        hiddenDim: o.hidden_dim!,
        outDim: o.z_dim!,
      }
    : { ...vicreg.defaults, hiddenDim: expander[0]!, outDim: expander.at(-1)! };
  const schedule: Schedule = emp ? { schedule: "cosine", peak: o.lr! } : vicregSchedule(o);
  const horizon = emp
    ? { stepsPerEpoch: 1, epochs: o.cosine_T_max! }
    : { stepsPerEpoch: o.steps_per_epoch!, epochs: o.epochs! };
  const step = trainingStep({
    dialect: engine.name,
    method: method as never,
    methodOptions,
    network: standIn(o.feat_dim!),
    optimizer: optimizers.lars as never,
    optimizerOptions: {
      ...optimizers.lars.defaults,
      ...(emp && { nesterov: true, weightDecay: 1e-4, trustCoefficient: 0.005, separateNorms: true, clipRate: true }),
    },
    batchSize: o.batch!,
    size: 1,
    channels: o.in_dim!,
  });
  const session = await engine.trainingSession(
    packageStep(step, initialTensors(step, 0, weights(c, student)), [engine.name]),
  );
  const out: Got = {};
  const rates: number[] = [];
  for (let t = 0; t < o.steps!; t++) {
    const view = (name: string) => rowsAsView([c.inputs[`${name}_${t}`] as GoldenTensor]);
    const inputs: Tensors = emp
      ? { patches: { ...view("patches"), shape: [o.patches!, o.batch!, o.in_dim!, 1, 1] } }
      : { view1: view("x"), view2: view("y") };
    rates.push(scheduled(schedule, t + (o.first_step_index ?? 0), horizon));
    await session.step(inputs, { lr: rates[t]! });
    const m = session.metrics();
    out[`loss_${t}`] = m.loss!;
    if (emp) [out[`loss_tcr_${t}`], out[`loss_contract_${t}`]] = [m.tcrLoss!, -m.cosine!];
  }
  const tensors = session.tensors();
  session.release();
  return { ...out, ...finals(c, tensors, student), lr_per_step: rates };
};

export const bagsslKinds: Record<string, Kind> = { loss, bag, lr, trainSteps };
