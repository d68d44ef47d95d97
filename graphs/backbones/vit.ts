/**
 * ViT (Dosovitskiy et al., ICLR 2021, arXiv 2010.11929) in APS' form: pre-norm blocks of timm 0.6.11, learned positions
 * [N,1,D] on the patches, a class token without a position, and only the kept tokens run.
 */
import type { Value } from "../../src/onnx/graph.js";
import {
  Add,
  Cast,
  Concat,
  Expand,
  GatherElements,
  MatMul,
  Mul,
  Reshape,
  Slice,
  Softmax,
  Squeeze,
  Transpose,
  transposed,
  Unsqueeze,
} from "../../src/ops/index.js";
import {
  conv,
  gelu,
  inFloat32,
  layerNorm,
  linear,
  stackedLinear,
  xavierUniform,
  zerosInit,
  type LinearOptions,
} from "../layers.js";
import type { Scope } from "../scope.js";
import type { Backbone } from "./index.js";

export interface ViTOptions {
  embedDim: number;
  depth: number;
  numHeads: number;
  /** Hidden width of a block's MLP over embedDim. */
  mlpRatio: number;
  /** Pixels a side; 2 for 32 px images, 16 for 224. */
  patchSize: number;
  qkvBias: boolean;
  epsilon: number;
  /** Linear layers: PyTorch's default, or MoCo-v3's Xavier (q, k and v each on its own fan) with biases at 0 */
  init: (typeof initializations)[number];
}

export const initializations = ["torch", "xavier"] as const;
const initial = ({ init }: ViTOptions, fanIn: number, fanOut: number): LinearOptions =>
  init === "xavier" ? { init: xavierUniform(fanIn, fanOut), biasInit: zerosInit } : {};

/** What each asking token [B,M,D] takes from each of x [B,N,D]: softmax(q·kᵀ/√d) [B,H,M,N], and what there is to take, v [B,H,N,D/H] */
function attending(s: Scope, asking: Value, x: Value, o: ViTOptions): { weights: Value; v: Value } {
  const d = x.shape.at(-1) as number;
  const own = d / o.numHeads;
  const qkv = stackedLinear(s.child("qkv"), [asking, x, x], d, { bias: o.qkvBias, ...initial(o, d, d) });
  const [q, k, v] = qkv.map((t) =>
    Transpose(Reshape(t, [0, t.shape[1] as number, o.numHeads, own]), { perm: [0, 2, 1, 3] }),
  ) as [Value, Value, Value]; // [B,H,N,D/H]
  const scores = Mul(MatMul(q, transposed(k)), own ** -0.5); // [B,H,M,N]
  return { weights: inFloat32(scores, (f) => Softmax(f)), v };
}

/** softmax(q·kᵀ/√d)·v over H heads: x [B,N,D], of which all tokens ask, or others [B,M,D] */
export function attention(s: Scope, x: Value, o: ViTOptions, asking = x): Value {
  const [m, d] = asking.shape.slice(1) as [number, number];
  const { weights, v } = attending(s, asking, x, o);
  const mixed = Reshape(Transpose(MatMul(weights, v), { perm: [0, 2, 1, 3] }), [0, m, d]);
  return linear(s.child("proj"), mixed, d, initial(o, d, d));
}

/** What the class token takes from each patch in a block, by head [B,H,h,w]: `s` and `x` are the block's, `side` is h. */
function classAttention(s: Scope, x: Value, o: ViTOptions, side: number): Value {
  const normed = layerNorm(s.child("norm1"), x, o.epsilon);
  const { weights } = attending(s.child("attn"), classRow(normed), normed, o);
  const ofClass = Slice(weights, { starts: [1], ends: [2 ** 31 - 1], axes: [3] }); // [B,H,1,h·w]
  return Reshape(ofClass, [0, o.numHeads, side, -1]);
}

/**
 * x + attention(norm(x)), then x + mlp(norm(x)), of all tokens or of those that `of` picks. What is between a norm and its sum has
 * the type of products.
 */
function block(s: Scope, x: Value, o: ViTOptions, of: (tokens: Value) => Value = (tokens) => tokens): Value {
  const d = x.shape.at(-1) as number;
  const wide = d * o.mlpRatio;
  const normed = (name: string, v: Value) => layerNorm(s.child(name), v, o.epsilon);
  const all = normed("norm1", x);
  const taken = attention(s.child("attn"), s.narrowed(all), o, s.narrowed(of(all)));
  const attended = Add(of(x), Cast(taken, x.dtype));
  const m = s.child("mlp");
  const hidden = gelu(m, linear(m.child("fc1"), s.narrowed(normed("norm2", attended)), wide, initial(o, d, wide)));
  return Add(attended, Cast(linear(m.child("fc2"), hidden, d, initial(o, wide, d)), x.dtype));
}

/** Pixels a side of a patch, which must divide the image. */
export function checkedPatch(s: Scope, image: Value, { patchSize }: ViTOptions): number {
  const side = image.shape[2] as number;
  if (side % patchSize) throw new Error(`${s.path || "vit"}: ${side} px do not divide into patches of ${patchSize}.`);
  return patchSize;
}

/** Patches with their positions [B,N,D], the kept ones only if `tokens` [B,n] says so, class token first. */
function embedded(s: Scope, image: Value, o: ViTOptions, tokens?: Value): Value {
  const d = o.embedDim;
  const p = checkedPatch(s, image, o);
  const patches = conv(s.child("patchify"), image, d, p, {
    bias: true,
    strides: [p, p],
    pads: [0, 0, 0, 0],
  });
  const [h, w] = patches.shape.slice(2) as [number, number];
  const flat = Transpose(Reshape(patches, [0, d, h * w]), { perm: [0, 2, 1] });
  const positions = s.parameter("pos_embedding", [h * w, 1, d], { name: "truncatedNormal", std: 0.02 });
  const x = kept(Add(flat, Transpose(positions, { perm: [1, 0, 2] })), tokens);
  const cls = s.parameter("cls_token", [1, 1, d], { name: "truncatedNormal", std: 0.02 });
  return Concat([perImage(cls, x), x], { axis: 1 });
}

/** The chosen ones of patches [B,N,D]: [B,n,D] */
export function kept(x: Value, tokens?: Value): Value {
  if (!tokens) return x;
  const index = Expand(Unsqueeze(tokens, [2]), [1, tokens.shape[1] as number, x.shape[2] as number]);
  return GatherElements(x, index, { axis: 1 });
}

/** cls [1,1,D] once an image; where the batch is a symbol, zeros of the first token's shape carry it */
export function perImage(cls: Value, x: Value): Value {
  const [b] = x.shape;
  if (typeof b === "number") return Expand(cls, [b, 1, cls.shape[2] as number]);
  return Add(Mul(Slice(x, { starts: [0], ends: [1], axes: [1] }), 0), cls);
}

/** The class token of tokens [B,1+N,D], as a row [B,1,D] */
const classRow = (tokens: Value): Value => Slice(tokens, { starts: [0], ends: [1], axes: [1] });
/** The class token [B,D] of tokens [B,1+N,D]. */
export const classToken = (tokens: Value): Value => Squeeze(classRow(tokens), [1]);

/** The tokens but the class token's as a map [B,D,h,w], or [B,n,D] where only some ran */
function mapOf(all: Value, image: Value, o: ViTOptions, chosen: boolean): Value {
  const side = (image.shape[2] as number) / o.patchSize;
  const rest = Slice(all, { starts: [1], ends: [2 ** 31 - 1], axes: [1] });
  return chosen ? rest : Reshape(Transpose(rest, { perm: [0, 2, 1] }), [0, o.embedDim, side, -1]);
}

/** What the forms of ViT have of their own: how images become tokens, and the names of the blocks and of the last norm. */
export interface ViTForm<O extends ViTOptions> {
  /** Class token and patches with their positions [B,1+N,D], the kept ones only if `tokens` [B,n] says so */
  embedded(s: Scope, image: Value, o: O, tokens?: Value): Value;
  blocks: string;
  norm: string;
}

/** Pre-norm blocks on the tokens of a form. */
export function transformer<O extends ViTOptions>({ embedded, blocks, norm }: ViTForm<O>) {
  /** Every token before the last block */
  const before = (s: Scope, image: Value, o: O, chosen?: Value): Value => {
    let x = embedded(s, image, o, chosen);
    for (let i = 0; i < o.depth - 1; i++) x = block(s.child(blocks).child(i), x, o);
    return x;
  };
  const lastBlock = (s: Scope, { depth }: O): Scope => {
    if (depth < 1) throw new Error(`A transformer has one block at least, but depth is ${depth}.`);
    return s.child(blocks).child(depth - 1);
  };
  /** The last block and the last norm, of all tokens or of those that `of` picks */
  const last = (s: Scope, x: Value, o: O, of?: (tokens: Value) => Value): Value =>
    layerNorm(s.child(norm), block(lastBlock(s, o), x, o, of), o.epsilon);
  /** Every token after the last norm: [B,1+N,D] */
  const tokens = (s: Scope, image: Value, o: O, chosen?: Value): Value => last(s, before(s, image, o, chosen), o);
  const shared = {
    anySize: false,
    width: (o) => o.embedDim,
    grid: (o, size) => size / o.patchSize,
    attention(s, image, o) {
      const side = (image.shape[2] as number) / o.patchSize;
      return classAttention(lastBlock(s, o), before(s, image, o), o, side);
    },
    /** A loss of features alone needs the last block for the class token only; an encoder gives the map as well. */
    forward(s, image, o, chosen) {
      const x = before(s, image, o, chosen);
      const all = last(s, x, o);
      const features = s.mode === "train" ? classToken(last(s, x, o, classRow)) : classToken(all);
      return { map: mapOf(all, image, o, chosen !== undefined), features };
    },
  } satisfies Omit<Backbone<O>, "summary" | "defaults">;
  return { tokens, shared };
}

const form = transformer<ViTOptions>({ embedded, blocks: "transformer", norm: "layer_norm" });
export const vitTokens = form.tokens;

const vit = (summary: string, embedDim: number, numHeads: number, patchSize: number): Backbone<ViTOptions> => ({
  ...form.shared,
  summary,
  choices: { init: initializations },
  defaults: { embedDim, depth: 12, numHeads, mlpRatio: 4, patchSize, qkvBias: false, epsilon: 1e-5, init: "torch" },
});

export const vitTiny = vit("ViT-Tiny, 5.4 M parameters, patch 2", 192, 3, 2);
export const vitSmall = vit("ViT-Small, 21.3 M parameters, patch 16", 384, 6, 16);
export const vitBase = vit("ViT-Base, 85.3 M parameters, patch 16", 768, 12, 16);
