/**
 * BagSSL. Bag of Image Patch Embedding Behind the Success of Self-Supervised Learning (Chen et al., TMLR 2023, arXiv 2206.08954)
 *
 *   the views of an image are patches of one fixed scale; h = f(x) (backbone), z = g(h) (projector)
 *   an image is represented by the mean of h over its patches: linear aggregation, at test time (evaluators, --patches)
 *   objective, for each pair of patches:
 *     tcr           L = −λ·cos(z₁, z₂) − ½(R_ε(Z₁) + R_ε(Z₂)),  z = ^g(h)                          zengyi-li/NMCE-release
 *     vicreg        L = VICReg(Z₁, Z₂),  z not normalised                                           facebookresearch/vicreg
 *     spectral      L = −E_{p(x₁,x₂)} z₁ᵀz₂ + λ·E_{p(x₁)p(x₂)} (z₁ᵀz₂)²                               (spectral contrastive)
 *     cooccurrence  L = E_{p(x₁)p(x₂)} (w·z₁ᵀz₂ − p(x₁,x₂)/(p(x₁)p(x₂)))² = 2w·L_spectral + const at λ = w/2
 *     covariance    L = E‖z₁ − z₂‖² + λ·‖E zzᵀ − I/d‖²                                              (covariance-regularised)
 * There is no official code; what stands for it is named above.
 */
import { constant, type Value } from "../../src/onnx/graph.js";
import {
  Add,
  Gather,
  Gemm,
  MatMul,
  Mul,
  Neg,
  ReduceMean,
  ReduceSum,
  ReduceSumSquare,
  Reshape,
  Sub,
  transposed,
} from "../../src/ops/index.js";
import { keysOf, oneOf } from "../../src/names.js";
import { l2normalize, mlp } from "../layers.js";
import { codingLoss, pairAgreement, patchView, patchwise, type PatchOptions } from "./tcr.js";
import { expander, vicregCoefficients, vicregLoss, type VicregCoefficients } from "./vicreg.js";
import type { Method } from "./index.js";

export type Objective = "tcr" | "vicreg" | "spectral" | "cooccurrence" | "covariance";
export interface BagsslOptions extends PatchOptions, VicregCoefficients {
  objective: Objective;
  /** tcr: weight of the agreement; 30. */
  similarity: number;
  /** tcr: ε, not squared; 0.2. */
  epsilon: number;
  /** spectral, covariance: λ. */
  lambda: number;
  /** cooccurrence: w. */
  cooccurrenceWeight: number;
  hiddenDim: number;
  outDim: number;
}

/** Every pair of views u < v of z [V,B,d], as two values [P,B,d]. */
export function pairsOf(z: Value): [Value, Value] {
  const v = z.shape[0] as number;
  const pairs = Array.from({ length: v * v }, (_, i) => [Math.floor(i / v), i % v] as const).filter(([a, b]) => a < b);
  const take = (side: 0 | 1) =>
    Gather(
      z,
      constant(
        [pairs.length],
        pairs.map((p) => p[side]),
        "int64",
      ),
    );
  return [take(0), take(1)];
}

/** [n,m]: `on` on the diagonal, `off` elsewhere */
export const diagonal = (n: number, on: number, off: number, m = n): Value =>
  constant(
    [n, m],
    Array.from({ length: n * m }, (_, i) => (Math.floor(i / m) === i % m ? on : off)),
  );

const mean = (x: Value): Value => ReduceMean(x, { keepdims: 0 });

/** −mean_b z₁ᵀz₂ + λ·mean_{b≠b'} (z₁_bᵀz₂_b')² over pairs z₁, z₂ [P,B,d] */
export function spectral([z1, z2]: [Value, Value], lambda: number) {
  const [p, b] = z1.shape as [number, number];
  const similarity = MatMul(z1, transposed(z2)); // [P, B, B]
  const attraction = Neg(mean(ReduceSum(Mul(z1, z2), { axes: [2] })));
  const others = Mul(Mul(similarity, similarity), diagonal(b, 0, 1));
  const repulsion = Mul(ReduceSum(others, { keepdims: 0 }), 1 / (p * b * (b - 1)));
  return { loss: Add(attraction, Mul(repulsion, lambda)), metrics: { attraction, repulsion } };
}

/** mean over all (b,b') of (w·z₁_bᵀz₂_b' − ratio)²; in a batch the ratio p(x₁,x₂)/(p(x₁)p(x₂)) is B for one image's patches, else 0 */
export function cooccurrence([z1, z2]: [Value, Value], weight: number) {
  const b = z1.shape[1] as number;
  const error = Sub(Mul(MatMul(z1, transposed(z2)), weight), diagonal(b, b, 0));
  return { loss: mean(Mul(error, error)), metrics: {} };
}

/** mean ‖z_u − z_v‖² over pairs + λ·‖(1/(V·B))·Σ zzᵀ − I/d‖²_F over all patches, for unit vectors z [V,B,d] */
export function covarianceRegularised(z: Value, lambda: number) {
  const [v, b, d] = z.shape as [number, number, number];
  const invariance = Sub(2, Mul(pairAgreement(z), 2));
  const rows = Reshape(z, [v * b, d]);
  const second = Gemm(rows, rows, null, { transA: 1, alpha: 1 / (v * b) }); // E zzᵀ [d, d]
  const covariance = ReduceSumSquare(Sub(second, diagonal(d, 1 / d, 0)), { keepdims: 0 });
  return { loss: Add(invariance, Mul(covariance, lambda)), metrics: { invariance, covariance } };
}

/** What each objective makes of the projections z [V,B,d]. */
const objectives = {
  tcr: (z, { similarity, epsilon }) => {
    const unit = l2normalize(z);
    return codingLoss(unit, pairAgreement(unit), { similarity, rate: 1, epsilon });
  },
  vicreg: (z, o) => vicregLoss(z, o),
  spectral: (z, o) => spectral(pairsOf(l2normalize(z)), o.lambda),
  cooccurrence: (z, o) => cooccurrence(pairsOf(l2normalize(z)), o.cooccurrenceWeight),
  covariance: (z, o) => covarianceRegularised(l2normalize(z), o.lambda),
} satisfies Record<Objective, (z: Value, o: BagsslOptions) => { loss: Value; metrics: Record<string, Value> }>;

export const bagssl: Method<BagsslOptions> = {
  summary: "Patches of one fixed scale agree; an image is the mean of its patches",
  paper: "Chen et al., TMLR 2023, arXiv 2206.08954",
  defaults: {
    objective: "tcr",
    patches: 2,
    patchScale: 0.25,
    similarity: 30,
    epsilon: 0.2,
    ...vicregCoefficients,
    lambda: 1,
    cooccurrenceWeight: 2,
    hiddenDim: 4096,
    outDim: 128,
  },
  choices: { objective: keysOf(objectives) },
  encoder: "student.backbone",

  views(options, size) {
    oneOf("objective", options.objective, objectives);
    return [patchView(options, size)];
  },

  embed(s, network, { patches }, { objective, hiddenDim, outDim }) {
    const student = s.child("student");
    const head = student.child("projector");
    const z = patchwise(patches!, (images) => {
      const { features } = network(student.child("backbone"), images);
      if (objective === "vicreg") return expander(head, features, hiddenDim, outDim);
      return mlp(head, features, [{ width: hiddenDim, norm: "bn", relu: true }, { width: outDim }]);
    });
    return { z }; // [V, B, d], not normalised
  },

  loss: (_s, { z }, _all, options) => objectives[options.objective](z!, options),
};
