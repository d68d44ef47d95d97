/** ResNet (He et al., CVPR 2016, arXiv 1512.03385), v1.5 as in torchvision: names, stride in the 3×3, initial distributions. */
import { Add, MaxPool, Relu, spatialMean } from "../../src/ops/index.js";
import type { Value } from "../../src/onnx/graph.js";
import { batchNorm, conv, kaimingNormal, zerosInit } from "../layers.js";
import type { Scope } from "../scope.js";
import type { Backbone } from "./index.js";

export interface ResNetOptions {
  /** imagenet: 7×7/2 and max-pool; cifar: 3×3/1 without */
  stem: "imagenet" | "cifar";
  /** Channels of the first stage. */
  width: number;
  /** Kaiming-normal fan: torchvision's fan_out, or DenseCL's fan_in */
  init: "fan_out" | "fan_in";
  /** The last BatchNorm of each block starts at γ = 0, so that blocks start as identities. */
  zeroInitResidual: boolean;
  /**
   * Pixels of the image to one cell of the last map, 8 or 16 for segmentation: stages that would pass it keep their size and dilate their
   * convolutions instead (mmsegmentation's strides, dilations and contract_dilation). A cifar stem has no more than 8 without.
   */
  outputStride: number;
}

const defaults: ResNetOptions = {
  stem: "imagenet",
  width: 64,
  init: "fan_out",
  zeroInitResidual: false,
  outputStride: 32,
};

/** How a 3×3 convolution steps. */
interface Stepping {
  stride: number;
  dilation: number;
}
const plain: Stepping = { stride: 1, dilation: 1 };

/** conv → BN, bias-free; the convolution's name ends where its BatchNorm's does (conv1/bn1, downsample.0/downsample.1) */
function convBn(
  s: Scope,
  names: [string, string],
  x: Value,
  out: number,
  kernel: number,
  { stride, dilation }: Stepping,
  o: ResNetOptions,
  last = false,
): Value {
  const fan = (o.init === "fan_out" ? out : (x.shape[1] as number)) * kernel * kernel;
  return batchNorm(
    s.child(names[1]),
    conv(s.child(names[0]), x, out, kernel, {
      strides: [stride, stride],
      dilations: [dilation, dilation],
      init: kaimingNormal(fan),
    }),
    last && o.zeroInitResidual ? { start: { weight: zerosInit } } : {},
  );
}
const nth = (i: number): [string, string] => [`conv${i}`, `bn${i}`];

/** x + F(x), projected by 1×1 where the shape changes */
function shortcut(s: Scope, x: Value, out: number, stride: number, o: ResNetOptions): Value {
  if (stride === 1 && x.shape[1] === out) return x;
  const d = s.child("downsample");
  return convBn(d, ["0", "1"], x, out, 1, { stride, dilation: 1 }, o);
}

type Block = (s: Scope, x: Value, width: number, stepping: Stepping, o: ResNetOptions) => Value;

const basicBlock: Block = (s, x, width, stepping, o) => {
  const y = Relu(convBn(s, nth(1), x, width, 3, stepping, o));
  const z = convBn(s, nth(2), y, width, 3, plain, o, true);
  return Relu(Add(z, shortcut(s, x, width, stepping.stride, o)));
};

const bottleneck: Block = (s, x, width, stepping, o) => {
  const y = Relu(convBn(s, nth(1), x, width, 1, plain, o));
  const z = Relu(convBn(s, nth(2), y, width, 3, stepping, o));
  const w = convBn(s, nth(3), z, 4 * width, 1, plain, o, true);
  return Relu(Add(w, shortcut(s, x, 4 * width, stepping.stride, o)));
};

/** Outputs of the stem and of the four stages (C2…C5). */
export function stages(s: Scope, image: Value, block: Block, depths: readonly number[], o: ResNetOptions): Value[] {
  const wide = o.stem === "imagenet";
  let x = Relu(convBn(s, nth(1), s.narrowed(image), o.width, wide ? 7 : 3, { stride: wide ? 2 : 1, dilation: 1 }, o));
  if (wide) x = MaxPool(x, { kernel: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] })[0];
  const outputs = [x];
  let [reached, dilation] = [wide ? 4 : 1, 1];
  depths.forEach((depth, stage) => {
    // a stage whose stride is taken away dilates by twice as much, from its second block on
    const stride = stage > 0 && reached < o.outputStride ? 2 : 1;
    const first = { stride, dilation };
    if (stage > 0 && stride === 1) dilation *= 2;
    reached *= stride;
    for (let i = 0; i < depth; i++)
      x = block(
        s.child(`layer${stage + 1}`).child(i),
        x,
        o.width * 2 ** stage,
        i === 0 ? first : { stride: 1, dilation },
        o,
      );
    outputs.push(x);
  });
  return outputs;
}

const resnet = (
  summary: string,
  block: Block,
  depths: readonly number[],
  expansion: number,
): Backbone<ResNetOptions> => ({
  summary,
  defaults,
  choices: { stem: ["imagenet", "cifar"], init: ["fan_out", "fan_in"] },
  anySize: true,
  width: (o) => 8 * o.width * expansion,
  forward(s, image, o) {
    const map = stages(s, image, block, depths, o).at(-1)!;
    return { map, features: spatialMean(map) };
  },
  stages: (s, image, o) => stages(s, image, block, depths, o),
});

export const resnet18 = resnet("ResNet-18, 11.2 M parameters", basicBlock, [2, 2, 2, 2], 1);
export const resnet34 = resnet("ResNet-34, 21.3 M parameters", basicBlock, [3, 4, 6, 3], 1);
export const resnet50 = resnet("ResNet-50, 23.5 M parameters", bottleneck, [3, 4, 6, 3], 4);
