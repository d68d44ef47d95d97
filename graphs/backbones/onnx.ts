/**
 * Any ONNX file as a backbone: its float initializers are parameters that start at the file's values, BatchNormalization's statistics are
 * state and train on the batch. The map is the last feature map on the way to the first output, before global pooling.
 */
import { importGraph, type BatchNormWeights } from "../../src/importer.js";
import { constant, input, type Value } from "../../src/onnx/graph.js";
import { readGraph } from "../../src/onnx/model.js";
import { Mul, ReduceSum, Reshape, spatialMean } from "../../src/ops/index.js";
import type { Init } from "../../src/step.js";
import type { Tensor } from "../../src/tensor.js";
import { batchNorm } from "../layers.js";
import { rootScope, type Scope } from "../scope.js";
import type { Backbone, Features } from "./index.js";

export interface OnnxOptions {
  /** Where the model lies, for the record. */
  file: string;
  /** The value in the file whose [B,D,h,w] is the map; "": the last feature map before global pooling. */
  output: string;
  /** The file's bytes, read by whoever asks for the network. */
  model?: Uint8Array;
}

const bytesOf = ({ file, model }: OnnxOptions): Uint8Array => {
  if (!model)
    throw new Error(
      `The ONNX backbone ${file || "without a file"} has not been read. Name it with --backbone FILE.onnx.`,
    );
  return model;
};

/** "stages.0.conv.weight" → the scope of stages.0.conv, and weight */
function placed(s: Scope, name: string): [Scope, string] {
  const at = name.lastIndexOf(".");
  return at < 0 ? [s, name] : [s.child(name.slice(0, at)), name.slice(at + 1)];
}
const startingAt = ({ data }: Tensor): Init => ({ name: "values", data: data as Float32Array });

/** BatchNorm under the scale's name: NAME.weight → NAME.weight, .bias, .running_mean, .running_var. ONNX counts momentum for the old statistics. */
function imported(s: Scope, x: Value, w: BatchNormWeights, momentum: number, epsilon: number): Value {
  return batchNorm(s.child(w.scale.name.replace(/\.weight$/, "")), x, {
    epsilon,
    momentum: 1 - momentum,
    start: {
      weight: startingAt(w.scale.value),
      bias: startingAt(w.bias.value),
      running_mean: startingAt(w.mean.value),
      running_var: startingAt(w.variance.value),
    },
  });
}

function forward(s: Scope, image: Value, o: OnnxOptions): Features {
  if (s.compute !== "float32")
    throw new Error(
      `${o.file || "An ONNX backbone"} is trained in float32 alone: its own constants are. Take precision fp32 or tf32.`,
    );
  const model = readGraph(bytesOf(o));
  const wanted = model.inputs[0]?.shape[1];
  const { values, outputs } = importGraph(model, wanted === 1 ? grey(image) : image, {
    parameter: (name, value) => {
      const [scope, leaf] = placed(s, name);
      return scope.parameter(leaf, value.shape, startingAt(value));
    },
    batchNorm: (x, weights, { epsilon, momentum }) => imported(s, x, weights, momentum, epsilon),
  });
  const map = o.output ? named(values, o.output) : lastMap(outputs[0]!);
  if (map.shape.length === 4) return { map, features: spatialMean(map) };
  if (map.shape.length !== 2)
    throw new Error(
      `${o.file}: output [${map.shape.join(",")}] is no map [B,D,h,w]. Name a value of the file with backbone.output.`,
    );
  return { map: Reshape(map, [0, map.shape[1] as number, 1, 1]), features: map };
}

/** One channel of three, as ITU-R 601 weighs them; an image of one channel stays. */
const grey = (image: Value): Value =>
  image.shape[1] === 3 ? ReduceSum(Mul(image, constant([1, 3, 1, 1], [0.299, 0.587, 0.114])), { axes: [1] }) : image;

function named(values: ReadonlyMap<string, Value>, name: string): Value {
  const value = values.get(name);
  if (value) return value;
  const maps = [...values].filter(([, v]) => v.node && v.shape.length === 4).map(([n]) => n);
  throw new Error(`The model has no value "${name}". Its last maps are ${maps.slice(-8).join(", ")}.`);
}

/**
 * Back along first inputs: what the first global pooling took, else the first map of several rows and columns, else the output itself;
 * that also where tokens [B,N,D] come first.
 */
function lastMap(output: Value): Value {
  const isMap = (v: Value): boolean => v.shape.length === 4;
  const spatial = (v: Value): boolean => isMap(v) && v.shape[2] !== 1 && v.shape[3] !== 1;
  const pools = /^(GlobalAveragePool|GlobalMaxPool|AveragePool|MaxPool|ReduceMean|ReduceMax)$/;
  const areTokens = (v: Value): boolean => v.shape.length === 3 && v.shape[2] !== 1;
  for (let v: Value | null | undefined = output; v && !spatial(v) && !areTokens(v); v = v.node?.inputs[0]) {
    const source: Value | null | undefined = v.node?.inputs[0];
    if (source && (spatial(source) || (isMap(source) && pools.test(v.node!.op.type)))) return source;
  }
  return output;
}

export const onnx: Backbone<OnnxOptions> = {
  summary: "any ONNX file with one image input: its weights become parameters",
  defaults: { file: "", output: "" },
  anySize: false,
  width(o) {
    const { inputs } = readGraph(bytesOf(o));
    const [, channels = 3, h, w] = inputs[0]?.shape ?? [];
    const side = (d?: number | string): number => (typeof d === "number" && d > 0 ? d : 64);
    const image = input("image", "float32", [1, typeof channels === "number" ? channels : 3, side(h), side(w)]);
    return forward(rootScope("portable", "eval").scope, image, o).features.shape[1] as number;
  },
  forward,
};
