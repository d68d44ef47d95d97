/** The exported encoder: the network in evaluation mode with its weights inside, under a contract that any runtime can read. */
import { constant, input, type Dim, type Value } from "../src/onnx/graph.js";
import { readInitializers, readModel, toModel } from "../src/onnx/model.js";
import { Cast, Div, Sub } from "../src/ops/index.js";
import { initialTensors } from "../src/step.js";
import type { Tensors } from "../src/tensor.js";
import { backbones, type Backbone, type BackboneName } from "./backbones/index.js";
import type { Network } from "./methods/index.js";
import { rootScope, statesOf, type Scope } from "./scope.js";

/** What metadata key "diptych" of an encoder holds. */
export interface EncoderInfo {
  backbone: BackboneName;
  options: object;
  /** Pixels a side the network was trained at. */
  size: number;
  /** Short side before the centre crop of `size`. */
  resize: number;
  mean: readonly number[];
  std: readonly number[];
  method: string;
  recipe: string;
}

/** The backbone with its options over the defaults. */
export function network(name: BackboneName, options: object = {}) {
  const backbone = backbones[name] as Backbone<object>;
  const resolved = { ...backbone.defaults, ...options };
  return { backbone, options: resolved, width: backbone.width(resolved) };
}

/** The backbone as methods take it: what it gives has the type of the image. */
export function boundNetwork(name: BackboneName, given: object = {}): Network {
  const { backbone, options } = network(name, given);
  const run: Network = (s, image, tokens) => {
    const { features, map } = backbone.forward(s, image, options, tokens);
    return { features: Cast(features, image.dtype), map: Cast(map, image.dtype) };
  };
  return Object.assign(run, {
    grid: backbone.grid && ((size: number) => backbone.grid!(options, size)),
  });
}

/** (image − mean)/std, channels on axis 1 */
export const normalized = (image: Value, mean: readonly number[], std: readonly number[]): Value => {
  const vector = (v: readonly number[]) => constant([1, v.length, 1, 1], v);
  return Div(Sub(image, vector(mean)), vector(std));
};

/**
 * A network in evaluation mode with its weights inside: `image` float32 [B,C,H,W] in 0–1 (grey, RGB, or RGB and alpha) → what `build` makes of
 * the normalised image. Standard ops, IR 8, opset 17; unless given, B is symbolic, and H and W where the network takes any size. `tensors`: parameters and BN
 * statistics by the names of the scope.
 */
export function networkModel(
  name: string,
  info: EncoderInfo,
  tensors: Tensors,
  build: (s: Scope, image: Value) => Record<string, Value>,
  metadata: Record<string, string> = {},
  [batch, ...side]: readonly [Dim, Dim, Dim] = [
    "B",
    ...(backbones[info.backbone].anySize ? (["H", "W"] as const) : ([info.size, info.size] as const)),
  ],
): Uint8Array {
  const image = input("image", "float32", [batch, info.mean.length, ...side]);
  const { scope, collected } = rootScope("portable", "eval");
  const outputs = build(scope, normalized(image, info.mean, info.std));
  const names = [...collected.parameters.keys(), ...collected.states.keys()];
  const missing = names.filter((n) => !(n in tensors));
  if (missing.length)
    throw new Error(
      `The ${name} needs "${missing[0]}"${missing.length > 1 ? ` and ${missing.length - 1} more tensors` : ""}, which the weights do not hold.`,
    );
  const initializers = Object.fromEntries(names.map((n) => [n, tensors[n]!]));
  return toModel({ name, inputs: [image], outputs, initializers, metadata });
}

/** encoder.onnx: `image` → `features` [B,D] and `map` [B,D,h,w], with what it was trained on under metadata key "diptych". */
export function encoderModel(info: EncoderInfo, tensors: Tensors): Uint8Array {
  const { backbone, options } = network(info.backbone, info.options);
  const both = (s: Scope, image: Value) => {
    const { features, map } = backbone.forward(s, image, options);
    return { features, map };
  };
  // a backbone's own file, if it came from one, is the model itself
  const saved = { ...info, options: { ...info.options, model: undefined } };
  return networkModel("encoder", info, tensors, both, { diptych: JSON.stringify(saved) });
}

/** An encoder's last attention: `image` → `attention` [B,H,h,w], what the class token takes from each patch, by head. */
export function attentionModel(info: EncoderInfo, tensors: Tensors): Uint8Array {
  const { backbone, options } = network(info.backbone, info.options);
  const { attention } = backbone;
  if (!attention) {
    const those = Object.entries(backbones).flatMap(([name, b]) => ("attention" in b ? [name] : []));
    throw new Error(`${info.backbone} has no class token whose attention could be shown; ${those.join(", ")} have.`);
  }
  return networkModel("attention", info, tensors, (s, image) => ({ attention: attention(s, image, options) }));
}

/** The network and its weights that an encoder of ours carries; undefined for other people's models, and for backbones that came as a file. */
export function networkIn(encoder: Uint8Array): { info: EncoderInfo; tensors: Tensors } | undefined {
  const { diptych } = readModel(encoder).metadata;
  const info = diptych ? (JSON.parse(diptych) as EncoderInfo) : undefined;
  return info && info.backbone !== "onnx" ? { info, tensors: readInitializers(encoder) } : undefined;
}

/** The weights and BN statistics that the network starts from: what an encoder of random weights holds. */
export function initialWeights(info: EncoderInfo, seed: number): Tensors {
  const { backbone, options } = network(info.backbone, info.options);
  const { scope, collected } = rootScope("portable", "eval");
  backbone.forward(scope, input("image", "float32", [1, info.mean.length, info.size, info.size]), options);
  return initialTensors({ parameters: [...collected.parameters.values()], state: statesOf(collected) }, seed);
}

/** The tensors below a scope, without its path: student.backbone.conv1.weight → conv1.weight */
export function below(path: string, tensors: Tensors): Tensors {
  const prefix = `${path}.`;
  return Object.fromEntries(
    Object.entries(tensors).flatMap(([name, t]) => (name.startsWith(prefix) ? [[name.slice(prefix.length), t]] : [])),
  );
}
