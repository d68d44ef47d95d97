/**
 * ISD. Self-Supervised Learning by Iterative Similarity Distillation (Tejankar et al., ICCV 2021, arXiv 2012.09259)
 *
 *   θ_t ← m·θ_t + (1 − m)·θ_s, no gradient through the teacher                    ^ = L2-normalised rows
 *   q = ^h(g(f_s(x_s))) [B,P]    k = ^g(f_t(x_t)) [B,P]    Q [K,P]: queue of past k
 *   a = q·Qᵀ/τ_s,  b = k·Qᵀ/τ_t  [B,K]
 *   L = mean_i KL( softmax(b_i) ‖ softmax(a_i) ) = cross-entropy − the teacher's entropy
 * k enters the queue after the loss, so that an image is never its own anchor. UMBCvision/ISD:
 *   plus  train_isd_plus.py   g: F → 2F → F/4, h: F/4 → 2F → F/4, Linear–BN–ReLU–Linear; weak view for the teacher, τ_t < τ_s
 *   v1    train_isd.py        no g, h: F → F → F with a bias at the end only; one τ for both
 */
import type { Value } from "../../src/onnx/graph.js";
import {
  Gemm,
  LogSoftmax,
  Mul,
  Neg,
  ReduceMean,
  ReduceSum,
  Softmax,
  Squeeze,
  stopGradient,
  Sub,
} from "../../src/ops/index.js";
import { keysOf, oneOf } from "../../src/names.js";
import type { ViewSpec } from "../../src/views.js";
import { bnProjector, l2normalize, mlp } from "../layers.js";
import type { Scope } from "../scope.js";
import type { Method } from "./index.js";
import { mocoView, shuffled, shuffleDraw, shuffleSpecs } from "./mocov2.js";

export interface IsdOptions {
  variant: keyof typeof heads;
  /** K: 128000 for ImageNet; a multiple of the batch, at most the number of images. */
  queueSize: number;
  /** τ_s: 0.1 (plus), 0.02 (v1) */
  studentTemp: number;
  /** τ_t: 0.01 (plus), 0.02 (v1); lower makes the teacher choose fewer neighbours. */
  teacherTemp: number;
  /** m: 0.99 (plus), 0.999 (v1) */
  momentum: number;
  /** teacher/student: weak/strong, weak/weak, strong/weak or strong/strong. Weak crops and flips, strong is MoCo-v2's view. */
  augmentation: (typeof augmentations)[number];
  /** The queue starts with unit rows, or, as v1's code, with unit columns: rows of norm √(P/K), targets near uniform until it is full. */
  queueInit: keyof typeof queueInits;
  /** Groups of the key batch for BatchNorm; 1: no shuffle. */
  bnGroups: number;
  /** Replaces parts of both views. */
  view?: Partial<ViewSpec>;
}

interface Heads {
  /** g, of both branches */
  projector(s: Scope, features: Value): Value;
  /** h, of the student; `width` is F. */
  predictor(s: Scope, x: Value, width: number): Value;
}
const widthOf = (x: Value): number => x.shape[1] as number;
const heads = {
  plus: {
    projector: (s, x) => bnProjector(s, x, 2 * widthOf(x), widthOf(x) / 4),
    predictor: (s, x, width) => bnProjector(s, x, 2 * width, width / 4),
  },
  v1: {
    projector: (_s, x) => x,
    predictor: (s, x, width) => mlp(s, x, [{ width, bias: false, norm: "bn", relu: true }, { width }]),
  },
} satisfies Record<string, Heads>;

/** View of the teacher / view of the student. */
const augmentations = ["weak/strong", "weak/weak", "strong/weak", "strong/strong"] as const;
const strengths: Record<string, (size: number) => ViewSpec> = {
  weak: (size) => ({ ...mocoView(size), jitter: undefined, grey: 0, blur: undefined }),
  strong: (size) => mocoView(size),
};
const queueInits = { rows: "unitRows", columns: "unitColumns" } as const;

/** KL of the student's similarities to the queue from the teacher's: q, k [B,P] as they leave the network, queue [K,P] */
export function distill(
  q: Value,
  k: Value,
  queue: Value,
  { studentTemp, teacherTemp }: Pick<IsdOptions, "studentTemp" | "teacherTemp">,
) {
  const similarities = (x: Value, temperature: number) =>
    Gemm(l2normalize(x), queue, null, { transB: 1, alpha: 1 / temperature });
  const student = similarities(q, studentTemp); // a [B,K]
  const teacher = similarities(stopGradient(k), teacherTemp); // b [B,K]
  const target = Softmax(teacher);
  /** mean_i −Σ_j target·x */
  const against = (x: Value) => Neg(ReduceMean(ReduceSum(Mul(target, x), { axes: [1], keepdims: 0 }), { keepdims: 0 }));
  const crossEntropy = against(LogSoftmax(student));
  const teacherEntropy = against(LogSoftmax(teacher));
  return { loss: Sub(crossEntropy, teacherEntropy), student, teacher, crossEntropy, teacherEntropy };
}

export const isd: Method<IsdOptions> = {
  summary: "A student's similarities to a queue follow its momentum teacher's; no image is pushed away",
  paper: "Tejankar et al., ICCV 2021, arXiv 2012.09259",
  defaults: {
    variant: "plus",
    queueSize: 4096,
    studentTemp: 0.1,
    teacherTemp: 0.01,
    momentum: 0.99,
    augmentation: "weak/strong",
    queueInit: "rows",
    bnGroups: 4,
  },
  choices: { variant: keysOf(heads), augmentation: augmentations, queueInit: keysOf(queueInits) },
  encoder: "student.backbone",
  released: ({ variant }) => ({ queueInit: variant === "v1" ? "columns" : "rows" }),

  views({ augmentation, view }, size) {
    const [teacher, student] = augmentation.split("/") as [string, string];
    const spec = (name: string, strength: string): ViewSpec => ({
      ...oneOf("strength of isd's augmentation (teacher/student)", strength, strengths)(size),
      ...view,
      name,
      count: 1,
    });
    return [spec("student", student), spec("teacher", teacher)];
  },
  scalars: ({ momentum }) => ({ momentum }),
  draws: ({ bnGroups }, b) => shuffleSpecs(bnGroups, b),
  draw: (random, { bnGroups }, b) => shuffleDraw(random, bnGroups, b),

  embed(s, network, inputs, { variant, bnGroups }) {
    const { projector, predictor } = oneOf("variant of isd", variant, heads);
    const [xs, xt] = [Squeeze(inputs.student!, [0]), Squeeze(inputs.teacher!, [0])];
    const student = s.child("student");
    const teacher = s.ema("teacher", student, s.scalar("momentum"));
    const features = (net: Scope, x: Value) => network(net.child("backbone"), x).features; // [B,F]
    const f = features(student, xs);
    const q = predictor(student.child("predictor"), projector(student.child("projector"), f), widthOf(f));
    const [k] = shuffled(teacher, xt, inputs, bnGroups, (net, x) => [
      projector(net.child("projector"), features(net, x)),
    ]);
    return { q, k: k! };
  },

  loss(s, { q, k }, all, { queueSize, queueInit, ...temperatures }) {
    const init = oneOf("queueInit of isd", queueInit, queueInits);
    const queue = s.ring("queue", [queueSize, widthOf(q!)], { name: init });
    const { loss, crossEntropy, teacherEntropy } = distill(q!, k!, queue, temperatures);
    s.push("queue", l2normalize(all.k!));
    return { loss, metrics: { crossEntropy, teacherEntropy } };
  },
};
