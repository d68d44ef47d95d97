/**
 * SimCLR. A Simple Framework for Contrastive Learning of Visual Representations (Chen et al., ICML 2020, arXiv 2002.05709)
 *
 *   z = ^g(f(x)) for both views of each image, in one batch: 2B rows, so BatchNorm sees both views
 *   L = mean_i −log( exp(z_i·z_p(i)/τ) / Σ_{j≠i} exp(z_i·z_j/τ) ),  p(i) = the other view of i's image     (NT-Xent, eq. 1)
 */
import { constant, type Value } from "../../src/onnx/graph.js";
import { Add, Gemm, Mul, ReduceMean, ReduceSum, Reshape, SoftmaxCrossEntropyLoss } from "../../src/ops/index.js";
import { imagenetStatistics, type ViewSpec } from "../../src/views.js";
import { l2normalize, projector } from "../layers.js";
import type { Method } from "./index.js";

export interface SimclrOptions {
  /** τ: 0.5 in the paper for CIFAR-10, 0.1 for ImageNet. Lower makes hard negatives count more. */
  temperature: number;
  hiddenDim: number;
  outDim: number;
  /** Replaces the views' crop, jitter, grey, blur … */
  view?: Partial<ViewSpec>;
}

export const simclr: Method<SimclrOptions> = {
  summary: "Two views agree, all other images of the batch repel (NT-Xent)",
  paper: "Chen et al., ICML 2020, arXiv 2002.05709",
  defaults: { temperature: 0.2, hiddenDim: 512, outDim: 128 },
  encoder: "student.backbone",

  views: ({ view }, size) => [
    {
      name: "views",
      count: 2,
      size,
      crop: { scale: [0.2, 1] },
      flip: 0.5,
      jitter: { p: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 },
      grey: 0.2,
      blur: { p: 0.5, sigma: [0.1, 2] },
      normalize: imagenetStatistics,
      ...view,
    },
  ],

  embed(s, network, { views }, { hiddenDim, outDim }) {
    const [count, b, ...image] = views!.shape as number[];
    const student = s.child("student");
    const { features } = network(student.child("backbone"), Reshape(views!, [count! * b!, ...image]));
    return { z: l2normalize(projector(student.child("projector"), features, hiddenDim, outDim)) }; // [2B, D]
  },

  loss(_s, { z }, _all, { temperature }) {
    const n = z!.shape[0] as number;
    const similarities = Gemm(z!, z!, null, { transB: 1, alpha: 1 / temperature }); // [2B, 2B]
    const masked = Add(similarities, constant([n, n], diagonal(n, -1e9)));
    const other = constant(
      [n],
      Array.from({ length: n }, (_, i) => (i + n / 2) % n),
      "int64",
    );
    const [loss] = SoftmaxCrossEntropyLoss(masked, other);
    return { loss, metrics: contrast(masked, similarities, n, temperature) };
  },
};

/** value on the diagonal, 0 elsewhere */
const diagonal = (n: number, value: number): number[] =>
  Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? value : 0));

/** Mean cosine of the positives, and of the negatives. */
function contrast(_masked: Value, logits: Value, n: number, temperature: number) {
  const cosines = Mul(logits, temperature);
  const shifted = constant(
    [n, n],
    Array.from({ length: n * n }, (_, i) => (i % n === (Math.floor(i / n) + n / 2) % n ? 1 / n : 0)),
  );
  const positive = ReduceSum(Mul(cosines, shifted), { keepdims: 0 });
  const total = ReduceMean(cosines, { keepdims: 0 });
  // the mean over all n² pairs holds n ones (the diagonal) and n positives
  const negative = Mul(Add(Mul(total, n * n), Mul(Add(positive, 1), -n)), 1 / (n * n - 2 * n));
  return { positive, negative };
}
