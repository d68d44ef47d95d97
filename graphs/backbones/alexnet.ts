/** SmallAlexNet of Alignment and Uniformity (Wang and Isola, ICML 2020, arXiv 2005.10242), as CACR trains it on 32 and 64 px; its names. */
import { MaxPool, Relu, Reshape } from "../../src/ops/index.js";
import type { Value } from "../../src/onnx/graph.js";
import type { Init } from "../../src/step.js";
import { batchNorm, conv, linear } from "../layers.js";
import type { Scope } from "../scope.js";
import type { Backbone } from "./index.js";

export interface AlexNetOptions {
  /** Channels of the first convolution; the others follow as 2, 4, 4 and 2 times it. */
  width: number;
  /** Width of the two linear layers, and of the features. */
  hiddenDim: number;
}

const init: Init = { name: "normal", std: 0.02 };

/** conv 3×3 → BN → ReLU, then a max-pool 3×3/2 where the block halves */
function convBlock(s: Scope, x: Value, channels: number, halves: boolean): Value {
  const y = Relu(batchNorm(s.child(1), conv(s.child(0), x, channels, 3, { init })));
  return halves ? MaxPool(y, { kernel: [3, 3], strides: [2, 2] })[0] : y;
}

/** linear → BN → ReLU; `at`: the linear layer's place in its block */
const linearBlock = (s: Scope, x: Value, width: number, at: number): Value =>
  Relu(batchNorm(s.child(at + 1), linear(s.child(at), x, width, { bias: false, init })));

const layout = [
  { times: 1, halves: true },
  { times: 2, halves: true },
  { times: 4, halves: false },
  { times: 4, halves: false },
  { times: 2, halves: true },
];

/** Outputs of the five convolutional blocks and of the two linear ones. */
function blocks(s: Scope, image: Value, { width, hiddenDim }: AlexNetOptions): Value[] {
  const all = s.child("blocks");
  const outputs: Value[] = [];
  const last = (): Value => outputs.at(-1) ?? s.narrowed(image);
  layout.forEach(({ times, halves }, i) => outputs.push(convBlock(all.child(i), last(), times * width, halves)));
  const flat = Reshape(last(), [0, -1]); // [B, 2·width·h·w]
  outputs.push(linearBlock(all.child(5), flat, hiddenDim, 1));
  outputs.push(linearBlock(all.child(6), last(), hiddenDim, 0));
  return outputs;
}

/** features: the second linear block, which the linear probe reads (fc7); map: the fifth convolutional block. */
export const smallAlexNet: Backbone<AlexNetOptions> = {
  summary: "SmallAlexNet, 26.2 M parameters at 32 px",
  defaults: { width: 96, hiddenDim: 4096 },
  anySize: false,
  width: (o) => o.hiddenDim,
  forward(s, image, o) {
    const all = blocks(s, image, o);
    return { map: all[4]!, features: all[6]! };
  },
  stages: blocks,
};
