/**
 * VICReg. Variance-Invariance-Covariance Regularization (Bardes et al., ICLR 2022, arXiv 2105.04906)
 *
 *   z = h(f(x)) for each view, each in a forward pass of its own; not normalised
 *   s(Z, Z') = mean ‖z − z'‖²/D                                    invariance: views agree                    (eq. 5)
 *   v(Z) = mean_j max(0, 1 − √(Var(z_j) + 1e-4))                   variance: no dimension goes silent          (eq. 1)
 *   c(Z) = (1/D)·Σ_{i≠j} C_ij²,  C = XᵀX/(B − 1), X centred        covariance: dimensions say different things (eq. 3, 4)
 *   L = λ·s + μ·½Σ_views v + ν·Σ_views c                                                                      (eq. 6)
 * Normalised as facebookresearch/vicreg main_vicreg.py does it; more than two views: the mean over all pairs of views.
 */
import type { Value } from "../../src/onnx/graph.js";
import {
  Add,
  Concat,
  MatMul,
  Mul,
  ReduceMean,
  ReduceSum,
  ReduceSumSquare,
  Relu,
  Sqrt,
  Sub,
  transposed,
  Unsqueeze,
} from "../../src/ops/index.js";
import type { ViewSpec } from "../../src/views.js";
import { mlp } from "../layers.js";
import type { Scope } from "../scope.js";
import { asymmetricViews, bothViews } from "./byol.js";
import type { Method } from "./index.js";

export interface VicregCoefficients {
  /** λ of the invariance: 25. */
  simCoeff: number;
  /** μ of the variance: 25; below simCoeff the embeddings may collapse. */
  stdCoeff: number;
  /** ν of the covariance: 1. */
  covCoeff: number;
}
export interface VicregOptions extends VicregCoefficients {
  /** Width of the expander's hidden layers: 8192 in the paper. */
  hiddenDim: number;
  /** Width of what the loss sees: 8192 in the paper; wide is good. */
  outDim: number;
  /** Replaces parts of both views. */
  view?: Partial<ViewSpec>;
}

/** Linear–BN–ReLU twice, then Linear without bias. main_vicreg.py Projector */
export const expander = (s: Scope, x: Value, hidden: number, out: number): Value =>
  mlp(s, x, [
    { width: hidden, norm: "bn", relu: true },
    { width: hidden, norm: "bn", relu: true },
    { width: out, bias: false },
  ]);

export const vicregCoefficients: VicregCoefficients = { simCoeff: 25, stdCoeff: 25, covCoeff: 1 };

/** The three terms of V views z [V,B,D], and their weighted sum. */
export function vicregLoss(z: Value, { simCoeff, stdCoeff, covCoeff }: VicregCoefficients) {
  const [v, b, d] = z.shape as [number, number, number];
  if (v < 2 || b < 2)
    throw new Error(`VICReg compares at least 2 views of at least 2 images, got ${v} views of ${b} images.`);
  const mean = (x: Value) => ReduceMean(x, { keepdims: 0 });
  // the mean over pairs of ‖z_u − z_v‖² is 2V/(V − 1) times the mean square distance from the views' mean
  const apart = Sub(z, ReduceMean(z, { axes: [0] }));
  const repr = Mul(mean(Mul(apart, apart)), (2 * v) / (v - 1));

  const x = Sub(z, ReduceMean(z, { axes: [1] })); // centred over the batch
  const variance = Mul(ReduceSumSquare(x, { axes: [1], keepdims: 0 }), 1 / (b - 1)); // [V, D]
  const std = mean(Relu(Sub(1, Sqrt(Add(variance, 1e-4)))));

  // ‖XᵀX‖² = ‖XXᵀ‖²: the smaller of D×D and B×B; what is off the diagonal is all but the variances
  const gram = Mul(b < d ? MatMul(x, transposed(x)) : MatMul(transposed(x), x), 1 / (b - 1));
  const square = Sub(ReduceSumSquare(gram, { keepdims: 0 }), ReduceSum(Mul(variance, variance), { keepdims: 0 }));
  const cov = Mul(square, 2 / (v * d));

  const loss = Add(Add(Mul(repr, simCoeff), Mul(std, stdCoeff)), Mul(cov, covCoeff));
  return { loss, metrics: { reprLoss: repr, stdLoss: std, covLoss: cov } };
}

export const vicreg: Method<VicregOptions> = {
  summary: "Two views agree; every dimension of a batch varies, and no two say the same",
  paper: "Bardes et al., ICLR 2022, arXiv 2105.04906",
  defaults: { ...vicregCoefficients, hiddenDim: 2048, outDim: 2048 },
  encoder: "student.backbone",

  views: ({ view }, size) => asymmetricViews(size, { scale: [0.08, 1], interpolation: "bicubic" }, view),

  embed(s, network, inputs, { hiddenDim, outDim }) {
    const student = s.child("student");
    const run = (images: Value) => {
      const { features } = network(student.child("backbone"), images);
      return Unsqueeze(expander(student.child("projector"), features, hiddenDim, outDim), [0]);
    };
    return { z: Concat(bothViews(inputs).map(run), { axis: 0 }) }; // [2, B, D]
  },

  loss: (_s, { z }, _all, options) => vicregLoss(z!, options),
};
