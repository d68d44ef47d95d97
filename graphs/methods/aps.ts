/**
 * APS. Asymmetric Patch Sampling for Contrastive Learning (Shen et al., Pattern Recognition 2025, arXiv 2306.02854)
 *
 *   view 1 keeps a uniform quarter of its patches (sparse sampling); the T subsets of one batch partition it
 *   view 2 keeps a quarter drawn without replacement, p_b ∝ ρ_b^γ, ρ_b = 1 − (share of patch b that view 1 shows)  (selective)
 *   z = g(f(kept patches)) [B,D],  p = h(z),  one network, no teacher                ^ = L2-normalised rows
 *   L(p, z) = mean_i −log( exp(p̂_i·ẑ_i/τ) / Σ_j exp(p̂_i·ẑ_j/τ) ),  L = L(p1, sg(z2)) + L(p2, sg(z1)): a sum
 * visresearch/aps: asym_patch_sampling.py, module/loss.py, module/model.py
 */
import type { Value } from "../../src/onnx/graph.js";
import { Add, Mul } from "../../src/ops/index.js";
import type { Random } from "../../src/random.js";
import { tensor } from "../../src/tensor.js";
import { cifarStatistics, type ViewSpec } from "../../src/views.js";
import type { Box, Draw } from "../augment.js";
import type { Scope } from "../scope.js";
import type { Method, Network } from "./index.js";
import { mocoView, queryAndKey } from "./mocov2.js";
import { head, inBatch } from "./mocov3.js";

export interface ApsOptions {
  /** τ */
  temperature: number;
  hiddenDim: number;
  outDim: number;
  /** Patches a side, as the backbone cuts its image. */
  grid: number;
  /** Share of the patches that run. */
  keepRatio: number;
  /** T: steps on one batch, each with its own patches; at most 1/keepRatio, as view 1's subsets are disjoint. */
  subsets: number;
  /** γ: 0 draws view 2 uniformly, 3 avoids what view 1 shows. */
  power: number;
  /** The sampler knows of flips. The released one ignores them, and so keeps a third of the intended asymmetry. */
  flipAware: boolean;
  view?: Partial<ViewSpec>;
}

// ---------------------------------------------------------------- patch sampling

/** Pixels that patch a of view 1 and patch b of view 2 share along one axis: [a][b] */
function shared(start1: number, length1: number, start2: number, length2: number, grid: number): number[][] {
  const [step1, step2] = [length1 / grid, length2 / grid];
  return Array.from({ length: grid }, (_, a) => {
    const from = start1 - start2 + a * step1;
    return Array.from({ length: grid }, (_, b) =>
      Math.max(0, Math.min(from + step1, (b + 1) * step2) - Math.max(from, b * step2)),
    );
  });
}

/** ρ [g²]: the share of each patch of view 2 that the kept patches of view 1 do not show; boxes in pixels of the image. */
export function unseen(view1: Box, view2: Box, kept: ArrayLike<number>, grid: number): Float64Array {
  const y = shared(view1.top, view1.height, view2.top, view2.height, grid);
  const x = shared(view1.left, view1.width, view2.left, view2.width, grid);
  const area = (view2.height / grid) * (view2.width / grid);
  const rho = new Float64Array(grid * grid).fill(1);
  for (let k = 0; k < kept.length; k++) {
    const rows = y[Math.floor(kept[k]! / grid)]!;
    const columns = x[kept[k]! % grid]!;
    for (let r = 0; r < grid; r++)
      if (rows[r]) for (let c = 0; c < grid; c++) rho[r * grid + c]! -= (rows[r]! * columns[c]!) / area;
  }
  return rho.map((v) => (v < 1e-6 ? 0 : v));
}

/** Index of the patch in the same row, columns counted from the other side. */
const mirrored = (patch: number, grid: number): number => patch - (patch % grid) + (grid - 1 - (patch % grid));

/** What a view shows: its crop and whether it was flipped. */
export type Shown = Pick<Draw, "crop" | "flip">;

/** ρ per patch as the views stand after their flips. */
export function unseenAfterFlips(view1: Shown, view2: Shown, kept: ArrayLike<number>, grid: number): Float64Array {
  const upright = view1.flip ? Array.from(kept, (patch) => mirrored(patch, grid)) : kept;
  const rho = unseen(view1.crop, view2.crop, upright, grid);
  return view2.flip ? rho.map((_, patch) => rho[mirrored(patch, grid)]!) : rho;
}

/**
 * `count` distinct indices, one after the other with p ∝ weight: NumPy's choice(replace=False, p). `uniform` gives as many numbers a
 * round as indices are missing. Where fewer indices have weight, the others are drawn alike (NumPy refuses).
 */
export function withoutReplacement(weight: ArrayLike<number>, count: number, uniform: () => number): number[] {
  const found = new Set<number>();
  while (found.size < count) {
    let left = Float64Array.from(weight, (w, i) => (found.has(i) ? 0 : w));
    if (!left.some(Boolean)) left = left.map((_, i) => Number(!found.has(i)));
    let total = 0;
    const ends = left.map((w) => (total += w));
    const drawn = Array.from({ length: count - found.size }, () => uniform());
    for (const u of drawn) found.add(ends.findIndex((end) => end / total > u));
  }
  return [...found];
}

const keptOf = ({ grid, keepRatio }: ApsOptions): number => Math.floor(grid * grid * keepRatio);

/** Kept patches [n] of both views of one image at step `inner` of its batch, row-major in the grid. */
function sample(
  random: Random,
  inner: number,
  [view1, view2]: readonly Shown[],
  o: ApsOptions,
): [Int32Array, number[]] {
  const n = keptOf(o);
  const kept = random
    .child("view1")
    .permutation(o.grid * o.grid)
    .subarray(n * inner, n * (inner + 1));
  const rho = o.flipAware
    ? unseenAfterFlips(view1!, view2!, kept, o.grid)
    : unseen(view1!.crop, view2!.crop, kept, o.grid);
  const weight = rho.map((v) => v ** o.power);
  return [kept, withoutReplacement(weight, n, random.child("view2", inner).uniform)];
}

// ---------------------------------------------------------------- network and loss

/** Projector and predictor alike: three layers, where MoCo-v3's predictor has two. */
const apsHead = (s: Scope, x: Value, { hiddenDim, outDim }: ApsOptions): Value =>
  head(s, x, 3, hiddenDim, outDim, true);

/** Refuses a grid that the backbone does not cut, and subsets that do not fit into it. */
function checkGrid({ grid }: Network, image: Value, o: ApsOptions): void {
  const size = image.shape.at(-1) as number;
  if (!grid)
    throw new Error(
      "aps runs a choice of patches, which this backbone cannot. Take a ViT: --set backbone.name=vitTiny.",
    );
  if (grid(size) !== o.grid)
    throw new Error(
      `aps: the backbone cuts ${size} px into ${grid(size)} patches a side, but method.grid is ${o.grid}. Set method.grid to ${grid(size)}, or another backbone.patchSize.`,
    );
  if (keptOf(o) < 1 || o.subsets * keptOf(o) > o.grid ** 2)
    throw new Error(
      `aps: ${o.subsets} disjoint subsets of ${o.keepRatio} of the patches do not fit into a grid of ${o.grid} × ${o.grid}. Lower method.subsets or method.keepRatio.`,
    );
}

export const aps: Method<ApsOptions> = {
  summary: "Two views agree by quarters of their patches, chosen to overlap little",
  paper: "Shen et al., Pattern Recognition 2025, arXiv 2306.02854",
  defaults: {
    temperature: 0.1,
    hiddenDim: 512,
    outDim: 128,
    grid: 16,
    keepRatio: 0.25,
    subsets: 4,
    power: 3,
    flipAware: true,
  },
  encoder: "student.backbone",
  released: () => ({ flipAware: false }),

  views: ({ view }, size) => [
    { ...mocoView(size), crop: { scale: [0.15, 1] }, blur: undefined, normalize: cifarStatistics, ...view },
  ],
  stepsPerBatch: ({ subsets }) => subsets,
  draws: (options, b) => ["tokens1", "tokens2"].map((name) => ({ name, dtype: "int64", shape: [b, keptOf(options)] })),
  draw(random, options, b, { inner, views }) {
    const [first, second] = views.views!;
    const samples = first!.map((shown, i) => sample(random.child(i), inner, [shown, second![i]!], options));
    const tokens = (view: 0 | 1) =>
      tensor(
        "int64",
        [b, keptOf(options)],
        samples.flatMap((s) => [...s[view]]),
      );
    return { tokens1: tokens(0), tokens2: tokens(1) };
  },

  embed(s, network, { views, tokens1, tokens2 }, options) {
    const images = queryAndKey(views!);
    checkGrid(network, images[0], options);
    const student = s.child("student");
    const [z1, z2] = [tokens1!, tokens2!].map((tokens, i) => {
      const { features } = network(student.child("backbone"), images[i]!, tokens);
      return apsHead(student.child("projector"), features, options); // [B, D]
    }) as [Value, Value];
    const [p1, p2] = [z1, z2].map((z) => apsHead(student.child("predictor"), z, options));
    return { p1: p1!, z1, p2: p2!, z2 };
  },

  loss(_s, own, all, { temperature }) {
    const one = inBatch(own.p1!, all.z2!, temperature);
    const two = inBatch(own.p2!, all.z1!, temperature);
    return {
      loss: Add(one.loss, two.loss),
      metrics: {
        loss1: one.loss,
        loss2: two.loss,
        positive: Mul(Add(one.similarity, two.similarity), 0.5),
        top1: Mul(Add(one.top1, two.top1), 0.5),
      },
    };
  },
};
