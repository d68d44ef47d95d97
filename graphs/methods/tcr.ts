/**
 * EMP-SSL. Self-Supervised Learning in One Training Epoch (Tong et al., 2023, arXiv 2304.03977): total coding rate over a bag of patches
 *
 *   V patches of one scale from each image; z_v = ^g(f(x_v)), all patches in one forward pass (BatchNorm sees them together)
 *   R_ε(Z) = ½·log det(I + d/(B·ε²)·ZᵀZ)                     coding rate of one patch index over the batch           (eq. 1)
 *   D = mean_v,b cos(z_v,b, z̄_b),  z̄ = mean_v z_v            agreement with the bag's mean; gradient through both     (eq. 3)
 *   L = −λ·D − mean_v R_ε(Z_v)                                                                                      (eq. 2)
 * The released code puts ε where the paper writes ε² (tsb0601/EMP-SSL loss.py); faithful does the same.
 */
import type { Value } from "../../src/onnx/graph.js";
import { Mul, Neg, ReduceMean, ReduceSum, ReduceSumSquare, Reshape, Sub } from "../../src/ops/index.js";
import type { ViewSpec } from "../../src/views.js";
import { codingRate } from "../codingRate.js";
import { l2normalize, mlp } from "../layers.js";
import type { Embeddings, Method } from "./index.js";

export interface PatchOptions {
  /** V: patches of each image in a batch. */
  patches: number;
  /** Share of the image's area that a patch covers. */
  patchScale: number;
  view?: Partial<ViewSpec>;
}
export interface TcrOptions extends PatchOptions {
  /** λ: weight of the agreement; 200. */
  similarity: number;
  /** Weight of the coding rate; 1. */
  rate: number;
  /** ε: distortion; 0.2. Smaller spreads the embeddings more finely. */
  epsilon: number;
  /** d/(B·ε²) as in the paper; without it d/(B·ε). */
  squareEpsilon: boolean;
  hiddenDim: number;
  outDim: number;
}

/** Square patches of one scale, resized to `size`; EMP-SSL's colours. dataset/aug.py */
export function patchView({ patches, patchScale, view }: PatchOptions, size: number): ViewSpec {
  const spec: ViewSpec = {
    name: "patches",
    count: patches,
    size,
    crop: { scale: [patchScale, patchScale], ratio: [1, 1] },
    flip: 0.5,
    jitter: { p: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.2 },
    grey: 0.2,
    blur: { p: 0.1, sigma: [0.1, 2] },
    solarize: { p: 0.1 },
    normalize: { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] },
    ...view,
  };
  const [least, most] = spec.crop.scale;
  if (!(least > 0 && most <= 1))
    throw new Error(
      `A patch cannot be larger than its image: expected patchScale, its share of the area, above 0 and at most 1 but received ${most}.`,
    );
  if (!(Number.isInteger(patches) && patches >= 2))
    throw new Error(
      `Patches are compared with one another: expected a whole number of at least 2 for patches but received ${patches}.`,
    );
  return spec;
}

/** Patches [V,B,3,S,S] through `run` in one batch, back as [V,B,…]. */
export function patchwise(patches: Value, run: (images: Value) => Value): Value {
  const [v, b, ...image] = patches.shape as number[];
  const z = run(Reshape(patches, [v! * b!, ...image]));
  return Reshape(z, [v!, b!, -1]);
}

/** mean cos(z_v, z̄) of z [V,B,d] */
export function agreement(z: Value): Value {
  const cosines = Mul(l2normalize(z), l2normalize(ReduceMean(z, { axes: [0] })));
  return ReduceMean(ReduceSum(cosines, { axes: [2] }), { keepdims: 0 });
}

/** mean over pairs of cos(z_u, z_v), u ≠ v: (‖Σ_v z_v‖² − V)/(V(V − 1)) for unit vectors z [V,B,d] */
export function pairAgreement(z: Value): Value {
  const v = z.shape[0] as number;
  const square = ReduceSumSquare(ReduceSum(z, { axes: [0] }), { axes: [2] });
  return Mul(Sub(ReduceMean(square, { keepdims: 0 }), v), 1 / (v * (v - 1)));
}

/** −λ·agreement − rate·mean_v R(Z_v), for unit vectors z [V,B,d] */
export function codingLoss(z: Value, cosine: Value, o: { similarity: number; rate: number; epsilon: number }) {
  const tcr = Neg(ReduceMean(codingRate(z, o.epsilon), { keepdims: 0 }));
  const loss = Sub(Mul(tcr, o.rate), Mul(cosine, o.similarity));
  return { loss, metrics: { tcrLoss: tcr, cosine } };
}

export const tcr: Method<TcrOptions> = {
  summary: "All patches of an image agree with their mean; each patch index spans the space (EMP-SSL)",
  paper: "Tong et al., 2023, arXiv 2304.03977",
  defaults: {
    patches: 20,
    patchScale: 0.25,
    similarity: 200,
    rate: 1,
    epsilon: 0.2,
    squareEpsilon: true,
    hiddenDim: 4096,
    outDim: 1024,
  },
  encoder: "student.backbone",
  released: () => ({ squareEpsilon: false }),

  views: (options, size) => [patchView(options, size)],

  embed(s, network, { patches }, { hiddenDim, outDim }): Embeddings {
    const student = s.child("student");
    const z = patchwise(patches!, (images) => {
      const { features } = network(student.child("backbone"), images);
      const pre = mlp(student.child("pre_feature"), features, [{ width: hiddenDim, norm: "bn", relu: true }]);
      return mlp(student.child("projection"), pre, [{ width: hiddenDim, norm: "bn", relu: true }, { width: outDim }]);
    });
    return { z }; // [V, B, d], not normalised
  },

  loss(_s, own, _all, { similarity, rate, epsilon, squareEpsilon }) {
    const z = l2normalize(own.z!);
    return codingLoss(z, agreement(z), {
      similarity,
      rate,
      epsilon: squareEpsilon ? epsilon ** 2 : epsilon,
    });
  },
};
