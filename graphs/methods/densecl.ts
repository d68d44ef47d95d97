/**
 * DenseCL. Dense Contrastive Learning for Self-Supervised Visual Pre-Training (Wang et al., CVPR 2021, arXiv 2011.09157)
 *
 *   q  = ^global_q [N,D]      k  = ^global_k          ^ = L2-normalised over channels, keys without gradient
 *   r  = ^dense_q  [N,D,P]    t  = ^dense_k           P = S² cells
 *   A  = ^C5_qᵀ·^C5_k [N,P,P],  c(i) = argmax_j A[n,i,j]                        (match on backbone features, eq. 3)
 *   L_global = mean_n   InfoNCE([q·k, q·queue]/τ)
 *   L_dense  = mean_n,i InfoNCE([r_i·t_c(i), r_i·queue2]/τ)                      (eq. 2)
 *   L = (1 − λ)·L_global + λ·L_dense                                             (eq. 4)
 * queue2 holds ^mean(dense_k): one vector an image, pooled before it is normalised. openselfsup/models/densecl.py
 */
import type { Value } from "../../src/onnx/graph.js";
import {
  Add,
  ArgMax,
  Expand,
  GatherElements,
  MatMul,
  Mul,
  ReduceMean,
  Relu,
  Reshape,
  stopGradient,
  Sub,
  Transpose,
  transposed,
  Unsqueeze,
} from "../../src/ops/index.js";
import { adaptiveAveragePool, conv, kaimingNormal, l2normalize, linear, zerosInit } from "../layers.js";
import type { Scope } from "../scope.js";
import { infoNce, mocoView, queryAndKey, shuffled, shuffleDraw, shuffleSpecs, type MocoOptions } from "./mocov2.js";
import type { Embeddings, Method } from "./index.js";

export interface DenseclOptions extends MocoOptions {
  /**
   * λ: weight of the dense loss. 0.5 in the paper; 0 is MoCo-v2. The authors advise { schedule: "delayed", value: 0.5, startStep: 10000 }
   * where it does not settle, and leave that out of every recipe of theirs.
   */
  lossLambda: number;
  /** S: the map is pooled to S × S before the dense head and before the match; 0: as it is. */
  numGrid: number;
}

/** Two heads on C5 [N,C,S,S]: global Linear–ReLU–Linear on the mean, dense 1×1 Conv–ReLU–Conv; no BN. necks.py DenseCLNeck */
export function neck(
  s: Scope,
  map: Value,
  hiddenDim: number,
  outDim: number,
  numGrid = 0,
): { global: Value; dense: Value } {
  const [mlp, mlp2] = [s.child("mlp"), s.child("mlp2")];
  const width = map.shape[1] as number;
  const head = (i: number, x: Value, out: number, fan: number) =>
    linear(mlp.child(i), x, out, { init: kaimingNormal(fan), biasInit: zerosInit });
  const mean = ReduceMean(map, { axes: [2, 3], keepdims: 0 });
  const global = head(2, Relu(head(0, mean, hiddenDim, width)), outDim, hiddenDim); // [N, D]
  const hidden = Relu(conv(mlp2.child(0), pooled(map, numGrid), hiddenDim, 1, { bias: true }));
  const grid = conv(mlp2.child(2), hidden, outDim, 1, { bias: true }); // [N, D, S, S]
  return { global, dense: Reshape(grid, [0, 0, -1]) };
}

/** The map at S × S. */
function pooled(map: Value, numGrid: number): Value {
  const side = Math.min(...(map.shape.slice(2) as number[]));
  if (numGrid > side)
    throw new Error(
      `densecl: method.numGrid is ${numGrid}, but the feature map has ${side} cells a side. Lower numGrid, or raise data.size.`,
    );
  return numGrid ? adaptiveAveragePool(map, numGrid) : map;
}

/** Cells [N,C,P] as unit vectors. */
const cells = (x: Value): Value => l2normalize(x, 1);

/** c [N,P]: the key cell most like each query cell, by backbone features [N,C,P]. */
export const matched = (featQ: Value, featK: Value): Value =>
  ArgMax(MatMul(transposed(cells(featQ)), cells(featK)), { axis: 2, keepdims: 0 });

/**
 * What the loss needs of one branch: C5 cells, global vector, dense cells, all as they leave the network. C5 is pooled as the head's
 * input is: the released code matches at C5's own resolution, and so fails wherever num_grid is set.
 */
function branch(s: Scope, map: Value, { hiddenDim, outDim, numGrid }: DenseclOptions): Value[] {
  const { global, dense } = neck(s.child("neck"), map, hiddenDim, outDim, numGrid);
  return [Reshape(pooled(map, numGrid), [0, 0, -1]), global, dense];
}

export const densecl: Method<DenseclOptions> = {
  summary: "MoCo-v2, and every cell agrees with the cell it matches in the other view",
  paper: "Wang et al., CVPR 2021, arXiv 2011.09157",
  defaults: {
    queueSize: 4096,
    temperature: 0.2,
    momentum: 0.999,
    hiddenDim: 512,
    outDim: 128,
    bnGroups: 4,
    lossLambda: 0.5,
    numGrid: 0,
  },
  encoder: "student.backbone",
  // with num_grid set, the released match points outside its grid and stops
  released: () => ({ numGrid: 0 }),

  views: ({ view }, size) => [mocoView(size, view)],
  scalars: ({ momentum, lossLambda }) => ({ momentum, lossLambda }),
  draws: ({ bnGroups }, b) => shuffleSpecs(bnGroups, b),
  draw: (random, { bnGroups }, b) => shuffleDraw(random, bnGroups, b),

  embed(s, network, inputs, options): Embeddings {
    const [xq, xk] = queryAndKey(inputs.views!);
    const student = s.child("student");
    const teacher = s.ema("teacher", student, s.scalar("momentum"));
    const run = (net: Scope, x: Value) => branch(net, network(net.child("backbone"), x).map, options);
    const [featQ, q, qGrid] = run(student, xq);
    const [featK, k, kGrid] = shuffled(teacher, xk, inputs, options.bnGroups, run);
    return { featQ: featQ!, q: q!, qGrid: qGrid!, featK: featK!, k: k!, kGrid: kGrid! };
  },

  loss(s, own, all, { queueSize, temperature }) {
    const { featQ, featK, qGrid, kGrid } = own as Required<Record<string, Value>>;
    const [, d, p] = qGrid!.shape as number[];
    const q = l2normalize(own.q!);
    const k = l2normalize(own.k!);
    const keys = (e: Embeddings) => [l2normalize(e.k!), l2normalize(ReduceMean(e.kGrid!, { axes: [2], keepdims: 0 }))];

    const queue = s.ring("queue", [queueSize, d!], { name: "unitRows" });
    const queue2 = s.ring("queue2", [queueSize, d!], { name: "unitRows" });
    const { loss: single, ...metrics } = infoNce(q, k, queue, temperature);

    const match = matched(stopGradient(featQ!), featK!); // [N, P]
    const n = match.shape[0] as number;
    const index = Expand(Unsqueeze(match, [1]), [n, d!, p!]);
    const positives = GatherElements(cells(kGrid!), index, { axis: 2 }); // t_c(i) [N, D, P]
    const rows = (x: Value) => Reshape(Transpose(x, { perm: [0, 2, 1] }), [n * p!, d!]);
    const dense = infoNce(rows(cells(qGrid!)), rows(positives), queue2, temperature);

    const lambda = s.scalar("lossLambda");
    const [k1, k2] = keys(all);
    s.push("queue", k1!);
    s.push("queue2", k2!);
    const contraSingle = Mul(single, Sub(1, lambda));
    const contraDense = Mul(dense.loss, lambda);
    return {
      loss: Add(contraSingle, contraDense),
      metrics: {
        lossContraSingle: contraSingle,
        lossContraDense: contraDense,
        ...metrics,
        top1Dense: dense.top1,
      },
    };
  },
};
