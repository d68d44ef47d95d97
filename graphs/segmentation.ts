/**
 * Semantic segmentation: a fully convolutional head on a dilated backbone, trained pixel by pixel.
 * Long, Shelhamer, Darrell, CVPR 2015; the form of mmsegmentation's FCNHead, with which DenseCL is transferred (configs/densecl).
 *
 *   logits = conv_seg(dropout(conv_cat([map, convs(map)])))   [B,C,h,w], bilinear to the labels' size
 *   L = CE(logits, labels) + λ·CE(auxiliary logits of C4, labels),  the mean over the pixels not labelled `ignored`
 */
import { input, type Dialect, type Value } from "../src/onnx/graph.js";
import { toModel } from "../src/onnx/model.js";
import {
  Add,
  ArgMax,
  Cast,
  Concat,
  Mul,
  Relu,
  Resize,
  Shape,
  Slice,
  SoftmaxCrossEntropyLoss,
} from "../src/ops/index.js";
import type { TrainingStep } from "../src/step.js";
import type { Tensors } from "../src/tensor.js";
import { smooth } from "./augment.js";
import { network, networkModel, normalized, type EncoderInfo } from "./encoder.js";
import { batchNorm, conv, kaimingNormal, zerosInit } from "./layers.js";
import { sgd } from "./optimizers.js";
import { rootScope, type Scope } from "./scope.js";
import { supervisedStep } from "./step.js";

export interface HeadOptions {
  /** Channels of the head's convolutions: 512 in mmsegmentation. */
  channels: number;
  /** 3×3 convolutions before the classifier; 0 for the classifier alone. */
  convs: number;
  dilation: number;
  /** The backbone's map joins the convolved one in one more convolution. */
  concatInput: boolean;
}

export interface SegmenterOptions extends HeadOptions {
  classes: number;
  /** Pixels to a cell of the last map, where the backbone has stages: 8 in DenseCL's configs; 32 leaves it as it is. */
  outputStride: number;
  /** Corners of both grids meet when logits are resampled, as in DenseCL's Cityscapes configs; else edges do. */
  alignCorners: boolean;
  /** λ, the weight of the loss at C4 where the backbone has stages and is trained; 0 for none. */
  auxiliary: number;
  /** The backbone as it came, BatchNorm in evaluation mode; the head alone is trained. With no `convs`, a linear probe of each place. */
  freeze: boolean;
}

/** Convolution, BatchNorm, ReLU, named as mmcv's ConvModule. */
const convModule = (s: Scope, x: Value, channels: number, dilation = 1): Value =>
  Relu(
    batchNorm(
      s.child("bn"),
      conv(s.child("conv"), x, channels, 3, {
        dilations: [dilation, dilation],
        init: kaimingNormal(channels * 9),
      }),
    ),
  );

/** map [B,D,h,w] → logits [B,C,h,w]: mmsegmentation's FCNHead. `dropout`: [B,channels,1,1], 0 or 1/(1 − p) for each of so many channels */
export function fcnHead(
  s: Scope,
  map: Value,
  classes: number,
  o: HeadOptions,
  dropout?: (channels: number) => Value,
): Value {
  let x = map;
  for (let i = 0; i < o.convs; i++) x = convModule(s.child("convs").child(i), x, o.channels, o.dilation);
  if (o.concatInput && o.convs) x = convModule(s.child("conv_cat"), Concat([map, x], { axis: 1 }), o.channels);
  return conv(s.child("conv_seg"), dropout ? Mul(x, dropout(x.shape[1] as number)) : x, classes, 1, {
    bias: true,
    init: { name: "normal", std: 0.01 },
    biasInit: zerosInit,
  });
}

/** The head on C4 has one convolution of half as many channels, and no part in the answer. */
const auxiliaryHead = ({ channels }: HeadOptions): HeadOptions => ({
  channels: Math.ceil(channels / 2),
  convs: 1,
  dilation: 1,
  concatInput: false,
});

/** The backbone's last map, and C4 where there are stages: what the heads read. */
function maps(s: Scope, image: Value, info: EncoderInfo, { outputStride, freeze }: SegmenterOptions) {
  const { backbone, options } = network(info.backbone, { ...info.options, outputStride });
  const own = freeze ? s.child("backbone").frozen().with({ mode: "eval" }) : s.child("backbone");
  if (!backbone.stages) return { last: backbone.forward(own, image, options).map };
  const spatial = backbone.stages(own, image, options).filter((map) => map.shape.length === 4);
  const [c4, last] = spatial.slice(-2) as [Value, Value];
  return { last, c4 };
}

/** Logits at other sizes: torch.nn.functional.interpolate, bilinear */
export const bilinear = (x: Value, sizes: readonly number[] | Value, alignCorners: boolean): Value =>
  Resize(
    x,
    { sizes },
    { mode: "linear", coordinate_transformation_mode: alignCorners ? "align_corners" : "half_pixel" },
  );

export interface SegmentationStepOptions extends SegmenterOptions {
  dialect: Dialect;
  info: EncoderInfo;
  batchSize: number;
  /** Pixels of a view. */
  height: number;
  width: number;
  /** Whole channels are dropped before the classifier with this probability; the masks are inputs. */
  dropout: number;
  momentum: number;
  weightDecay: number;
  /** The heads' learning rate over the backbone's. */
  headRate: number;
  /** The label of pixels that do not count. */
  ignored: number;
}

/**
 * One step of SGD. Inputs `image` [B,3,H,W] in 0–1, `labels` int64 [B,H,W], and with dropout `decode_head.dropout` and
 * `auxiliary_head.dropout` [B,channels,1,1].
 */
export function segmentationStep(o: SegmentationStepOptions): TrainingStep {
  const { scope, collected } = rootScope(o.dialect);
  const origin = { path: "", dialect: o.dialect };
  const { batchSize, height, width, info, classes } = o;
  const image = input("image", "float32", [batchSize, info.mean.length, height, width], origin);
  const labels = input("labels", "int64", [batchSize, height, width], origin);
  const inputs = [image, labels];
  const { last, c4 } = maps(scope, normalized(image, info.mean, info.std), info, o);

  const lossOf = (name: string, map: Value, head: HeadOptions): Value => {
    const dropout = (channels: number): Value => {
      const mask = input(`${name}.dropout`, "float32", [batchSize, channels, 1, 1], origin);
      inputs.push(mask);
      return mask;
    };
    const logits = fcnHead(scope.child(name), map, classes, head, o.dropout > 0 ? dropout : undefined);
    const full = bilinear(logits, [batchSize, classes, height, width], o.alignCorners);
    return SoftmaxCrossEntropyLoss(full, labels, { ignore_index: o.ignored })[0];
  };
  const main = lossOf("decode_head", last, o);
  // it is for the backbone's sake: nothing to do over a frozen one
  const loss =
    c4 && o.auxiliary && !o.freeze ? Add(main, Mul(lossOf("auxiliary_head", c4, auxiliaryHead(o)), o.auxiliary)) : main;

  const options = { ...sgd.defaults, momentum: o.momentum, weightDecay: o.weightDecay };
  return supervisedStep(
    scope,
    collected,
    { inputs, loss },
    {
      optimizer: sgd as never,
      optimizerOptions: options,
      own: (name) => ({ rate: name.startsWith("backbone.") ? 1 : o.headRate, options }),
    },
  );
}

/**
 * What the training ends with, as one file: `image` as an encoder takes it → `logits` [B,C,H,W] at the image's size and `labels` int64
 * [B,H,W], the class of each pixel; the classes' names under metadata key "classes".
 */
export function segmenterModel(
  info: EncoderInfo,
  o: SegmenterOptions,
  names: readonly string[],
  tensors: Tensors,
): Uint8Array {
  const build = (s: Scope, image: Value) => {
    const coarse = fcnHead(s.child("decode_head"), maps(s, image, info, o).last, o.classes, o);
    const logits = bilinear(
      coarse,
      sizesOf(coarse, Slice(Shape(image), { starts: [2], ends: [4], axes: [0] })),
      o.alignCorners,
    );
    return { logits, labels: ArgMax(logits, { axis: 1, keepdims: 0 }) };
  };
  return networkModel("segmenter", info, tensors, build, { classes: JSON.stringify(names) });
}

/** The batch and channels of x with another height and width. */
const sizesOf = (x: Value, size: Value): Value =>
  Concat([Slice(Shape(x), { starts: [0], ends: [2], axes: [0] }), size], { axis: 0 });

/** The answer at a size of one's own: `logits` [B,C,h,w] and `size` int64 [2] → `labels` int64 [B,H,W] */
export function labelsModel(classes: number, alignCorners: boolean): Uint8Array {
  const logits = input("logits", "float32", ["B", classes, "h", "w"]);
  const size = input("size", "int64", [2]);
  const labels = ArgMax(bilinear(logits, sizesOf(logits, size), alignCorners), { axis: 1, keepdims: 0 });
  return toModel({ name: "labels", inputs: [logits, size], outputs: { labels } });
}

/** A view of an image: `image` uint8 [1,3,h,w] and `size` int64 [2] → `view` float32 [1,3,H,W] in 0–1 */
export function viewModel(): Uint8Array {
  const image = input("image", "uint8", [1, 3, "h", "w"]);
  const size = input("size", "int64", [2]);
  const view = Mul(smooth(Cast(image, "float32"), sizesOf(image, size)), 1 / 255);
  return toModel({ name: "view", inputs: [image, size], outputs: { view } });
}
