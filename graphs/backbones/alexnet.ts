/**
 * SmallAlexNet: AlexNet (Krizhevsky et al., NeurIPS 2012) for 32 and 64 px with BatchNorm, as Wang & Isola (ICML 2020) and CACR use it.
 * Names and initial distributions of JegZheng/CACR-SSL small_scale_experiments/cifar10/encoder.py, whose last layer is the projector here.
 */
import type { Value } from "../../src/onnx/graph.js";
import { MaxPool, Relu, Reshape } from "../../src/ops/index.js";
import type { Init } from "../../src/step.js";
import { batchNorm, conv, linear } from "../layers.js";
import type { Scope } from "../scope.js";
import type { Backbone } from "./index.js";

export interface SmallAlexNetOptions {
  /** Width of the two fully connected layers, and of the features. */
  fcDim: number;
}

const init: Init = { name: "normal", std: 0.02 };
/** Channels of the five convolutions, and whether a pool follows. */
const convolutions: readonly [channels: number, pooled: boolean][] = [
  [96, true],
  [192, true],
  [384, false],
  [384, false],
  [192, true],
];

/** Outputs of the seven blocks: conv 3×3–BN–ReLU(–max-pool 3/2) five times, then Linear–BN–ReLU (fc6, fc7). */
export function alexnetBlocks(s: Scope, image: Value, { fcDim }: SmallAlexNetOptions): Value[] {
  const outputs: Value[] = [];
  let x = image;
  for (const [i, [channels, pooled]] of convolutions.entries()) {
    const block = s.child("blocks").child(i);
    x = Relu(batchNorm(block.child(1), conv(block.child(0), x, channels, 3, { init })));
    if (pooled) x = MaxPool(x, { kernel: [3, 3], strides: [2, 2] })[0];
    outputs.push(x);
  }
  const [c, h, w] = x.shape.slice(1) as [number, number, number];
  x = Reshape(x, [0, c * h * w]);
  // fc6 is numbered from 1: torch's Flatten stands at 0
  for (const [i, first] of [
    [5, 1],
    [6, 0],
  ] as const) {
    const block = s.child("blocks").child(i);
    const hidden = linear(block.child(first), x, fcDim, { bias: false, init });
    x = Relu(batchNorm(block.child(first + 1), hidden));
    outputs.push(x);
  }
  return outputs;
}

export const smallAlexnet: Backbone<SmallAlexNetOptions> = {
  summary: "SmallAlexNet for 32 px and up, 26.7 M parameters",
  defaults: { fcDim: 4096 },
  anySize: false,
  width: (o) => o.fcDim,
  forward(s, image, o) {
    const outputs = alexnetBlocks(s, image, o);
    return { map: outputs[4]!, features: outputs[6]! };
  },
};
