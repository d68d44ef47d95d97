/**
 * ViT in MoCo-v3's form (Chen et al., ICCV 2021, arXiv 2104.02057): timm 0.4.9 blocks with q, k and v biases, fixed 2-D sine–cosine
 * positions, Xavier weights, and a patch projection that may stay as it was drawn. Names of facebookresearch/moco-v3 vits.py, whose
 * head is the projector here.
 */
import { constant, type Value } from "../../src/onnx/graph.js";
import { Add, Concat, MatMul, Reshape, Slice, Transpose } from "../../src/ops/index.js";
import { convolution, xavierUniform, zerosInit } from "../layers.js";
import type { Scope } from "../scope.js";
import { checkedPatch, initializations, kept, perImage, transformer, type ViTOptions } from "./vit.js";
import type { Backbone } from "./index.js";

export interface MocoVitOptions extends ViTOptions {
  /** The patch projection is not trained: steadier in long runs (§4 of the paper). */
  stopGradConv1: boolean;
  /** Pixels a side that the positions are laid out for, smaller crops get them resized; 0: those of the image. */
  imageSize: number;
}

/** Rows [1 + h·w, D]: 0 for the class token, then sin and cos of x·ω and of y·ω, ω_i = 10000^(−4i/D), x before y as in vits.py */
export function sinCosPositions(h: number, w: number, d: number): number[] {
  if (d % 4) throw new Error(`Sine–cosine positions need an embedDim of a multiple of 4, got ${d}.`);
  const waves = (at: number, f: (x: number) => number) =>
    Array.from({ length: d / 4 }, (_, i) => f(at / 10000 ** (i / (d / 4))));
  const both = (at: number) => [...waves(at, Math.sin), ...waves(at, Math.cos)];
  const cells = Array.from({ length: h * w }, (_, t) => [...both(Math.floor(t / h)), ...both(t % h)]);
  return [...Array<number>(d).fill(0), ...cells.flat()];
}

/** Keys' cubic with a = −3/4, torch's without antialiasing. */
function keys(x: number): number {
  const [t, a] = [Math.abs(x), -0.75];
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? a * (((t - 5) * t + 8) * t - 4) : 0;
}

/** [m,n]: bicubic weights of torch's interpolate at a given scale, without antialiasing, edges repeated */
function resizing(n: number, m: number, scale: number): Value {
  const rows = Array.from({ length: m }, (_, i) => {
    const row = Array<number>(n).fill(0);
    const centre = (i + 0.5) / scale - 0.5;
    for (let tap = Math.floor(centre) - 1; tap <= Math.floor(centre) + 2; tap++)
      row[Math.min(n - 1, Math.max(0, tap))]! += keys(centre - tap);
    return row;
  });
  return constant([m, n], rows.flat());
}

/** Positions [1,1+n²,D] for a grid of m × m patches. The released code adds 0.1 to m, against rounding, and scales by it. */
function positionsFor(positions: Value, n: number, m: number): Value {
  if (n === m) return positions;
  const d = positions.shape[2] as number;
  const part = (start: number, end: number) => Slice(positions, { starts: [start], ends: [end], axes: [1] });
  const rows = resizing(n, m, (m + 0.1) / n);
  const across = MatMul(rows, Reshape(part(1, 1 + n * n), [n, n, d])); // [n,m,D]
  const down = MatMul(rows, Reshape(across, [n, m * d])); // [m,m·D]
  return Concat([part(0, 1), Reshape(down, [1, m * m, d])], { axis: 1 });
}

/** Class token and patches with their positions [B,1+N,D] */
function embedded(s: Scope, image: Value, o: MocoVitOptions, tokens?: Value): Value {
  const [d, p] = [o.embedDim, checkedPatch(s, image, o)];
  const projection = s.child("patch_embed").child("proj");
  const own = o.stopGradConv1 ? projection.frozen() : projection;
  const channels = image.shape[1] as number;
  const weight = own.parameter("weight", [d, channels, p, p], xavierUniform(channels * p * p, d));
  const patches = convolution(own, image, weight, own.parameter("bias", [d], zerosInit), { strides: [p, p] });
  const m = patches.shape[2] as number;
  const n = (o.imageSize || (image.shape[2] as number)) / p;
  const init = { name: "values", data: sinCosPositions(n, n, d) } as const;
  const positions = positionsFor(s.frozen().parameter("pos_embed", [1, 1 + n * n, d], init), n, m);
  const at = (start: number, end: number) => Slice(positions, { starts: [start], ends: [end], axes: [1] });
  const flat = Transpose(Reshape(patches, [0, d, m * m]), { perm: [0, 2, 1] });
  const x = kept(Add(flat, at(1, 1 + m * m)), tokens);
  const cls = Add(s.parameter("cls_token", [1, 1, d], { name: "normal", std: 1e-6 }), at(0, 1));
  return Concat([perImage(cls, x), x], { axis: 1 });
}

const form = transformer<MocoVitOptions>({ embedded, blocks: "blocks", norm: "norm" });
export const mocoVitTokens = form.tokens;

const mocoVit = (summary: string, embedDim: number): Backbone<MocoVitOptions> => ({
  ...form.shared,
  summary,
  choices: { init: initializations },
  defaults: {
    embedDim,
    depth: 12,
    numHeads: 12,
    mlpRatio: 4,
    patchSize: 16,
    qkvBias: true,
    epsilon: 1e-6,
    init: "xavier",
    stopGradConv1: false,
    imageSize: 0,
  },
});

export const mocoVitSmall = mocoVit("MoCo-v3's ViT-Small (12 heads), 21.6 M parameters, patch 16", 384);
export const mocoVitBase = mocoVit("MoCo-v3's ViT-Base, 85.6 M parameters, patch 16", 768);
