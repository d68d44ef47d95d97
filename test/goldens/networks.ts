/** Networks against torchvision, timm and the papers' code: outputs, gradients and running statistics, from weights given by formula. */
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { alexnetBlocks } from "../../graphs/backbones/alexnet.js";
import { backbones, type Backbone, type BackboneName } from "../../graphs/backbones/index.js";
import { mocoVitTokens, sinCosPositions } from "../../graphs/backbones/mocoVit.js";
import { classToken, vitTokens, type ViTOptions } from "../../graphs/backbones/vit.js";
import { batchNorm, l2normalize, linear, mlp } from "../../graphs/layers.js";
import { head } from "../../graphs/methods/mocov3.js";
import { rootScope, type Mode, type Scope } from "../../graphs/scope.js";
import { gradients } from "../../src/autodiff.js";
import { readSafetensors } from "../../src/artifacts/safetensors.js";
import { constantOf, input, type Dialect, type Value } from "../../src/onnx/graph.js";
import { Abs, Add, Cast, Concat, Greater, Mul, ReduceSum, Relu, spatialMean, Sub } from "../../src/ops/index.js";
import { sizeOf, tensor, zeros, type Tensor, type Tensors } from "../../src/tensor.js";
import { evaluate } from "../evaluate.js";
import { nodesOf, wideTensor, widener, withSides } from "../rewrite.js";
import { distance, expected, largest, type GoldenCase, type GoldenTensor, type Kind } from "./case.js";

/** golden README: a tensor by integer hash of (position, element, seed). */
export function formula(
  shape: readonly number[],
  index: number,
  seed: number,
  center: number,
  bound: number,
): Tensor<"float32"> {
  const t = zeros("float32", shape);
  const offset = (Math.imul(index, 0x85ebca77) + Math.imul(seed, 0xc2b2ae3d)) | 0;
  for (let i = 0; i < t.data.length; i++) {
    let x = (Math.imul(i, 0x9e3779b1) + offset) | 0;
    x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
    x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
    x ^= x >>> 16;
    t.data[i] = Math.fround(center + bound * (2 * ((x >>> 0) / 4294967296) - 1));
  }
  return t;
}

type Build = (s: Scope, images: Record<string, Value>, c: GoldenCase) => Record<string, Value>;

const resnetOutputs = (name: BackboneName, s: Scope, image: Value, options: object): Record<string, Value> => {
  const backbone = backbones[name] as Backbone<object>;
  const [stem, res2, res3, res4, res5] = backbone.stages!(s, image, { ...backbone.defaults, ...options }) as [
    Value,
    Value,
    Value,
    Value,
    Value,
  ];
  return { stem, res2, res3, res4, res5, pooled: spatialMean(res5) };
};
const classifier = (s: Scope, out: Record<string, Value>, width: number): Record<string, Value> => ({
  ...out,
  logits: linear(s.child("fc"), out.pooled!, width),
});
const widthOf = (c: GoldenCase, weight: string): number =>
  (c.options.weights as [string, number[]][]).find(([n]) => n === weight)![1][0]!;

const empEncoder: Build = (s, { image }, c) => {
  const out = resnetOutputs("resnet18", s.child("backbone"), image!, { stem: "cifar" });
  const pre = mlp(s.child("pre_feature"), out.pooled!, [
    { width: c.options.hidden_dim as number, norm: "bn", relu: true },
  ]);
  const z = mlp(s.child("projection"), pre, [
    { width: widthOf(c, "projection.0.weight"), norm: "bn", relu: true },
    { width: c.options.z_dim as number },
  ]);
  return { ...out, pre_feature: pre, z: l2normalize(z) };
};

const smallAlexNet: Build = (s, { image }, c) => {
  const blocks = alexnetBlocks(s, image!, { fcDim: widthOf(c, "blocks.6.0.weight") });
  const last = s.child("blocks").child(7).child(0);
  const embedding = l2normalize(linear(last, blocks[6]!, widthOf(c, "blocks.7.0.weight")));
  return Object.fromEntries([...blocks, embedding].map((v, i) => [`block${i + 1}`, v]));
};

const vitOptions = (c: GoldenCase): ViTOptions => ({
  embedDim: c.options.emb_dim as number,
  depth: c.options.num_layer as number,
  numHeads: c.options.num_head as number,
  mlpRatio: 4,
  patchSize: (c.options.patch as number) ?? 2,
  qkvBias: Boolean(c.options.qkv_bias),
  epsilon: (c.options.layer_norm_eps as number) ?? 1e-5,
  init: "torch",
});

const aps: Build = (s, { image1, image2, index1, index2 }, c) => {
  const o = vitOptions(c);
  const encoder = s.child("base_encoder");
  const hidden = c.options.mlp_dim as number;
  const out: Record<string, Value> = {};
  const view = (image: Value, index: Value, n: 1 | 2): void => {
    const tokens = vitTokens(encoder, image, o, index);
    if (n === 1) out.view1_tokens_after_norm = tokens;
    out[`z${n}`] = head(encoder.child("fc"), classToken(tokens), 3, hidden, c.options.dim as number, true);
  };
  view(image1!, index1!, 1);
  view(image2!, index2!, 2);
  for (const n of [1, 2])
    out[`p${n}`] = head(s.child("predictor"), out[`z${n}`]!, 3, hidden, c.options.dim as number, true);
  out.concat_p1_p2 = Concat([out.p1!, out.p2!], { axis: 0 });
  return out;
};

const apsFinetune: Build = (s, { image }, c) => {
  const tokens = vitTokens(s, image!, vitOptions(c));
  const cls = classToken(tokens);
  return { cls, logits: linear(s.child("fc"), cls, c.options.out_ndim as number) };
};

const mocoVit: Build = (s, { image, local }, c) => {
  const o = {
    ...backbones.mocoVitBase.defaults,
    embedDim: c.options.embed_dim as number,
    depth: c.options.depth as number,
    numHeads: c.options.num_heads as number,
    patchSize: c.options.patch as number,
    epsilon: c.options.layer_norm_eps as number,
    imageSize: c.options.image_size as number,
  };
  const run = (x: Value) => classToken(mocoVitTokens(s, x, o));
  const [global, small] = [run(image!), run(local!)];
  const [logits_global, logits_local] = [global, small].map((x) =>
    linear(s.child("head"), x, widthOf(c, "head.weight")),
  );
  return {
    global_cls: global,
    local_cls: small,
    logits_global: logits_global!,
    logits_local: logits_local!,
    logits: Concat([logits_global!, logits_local!], { axis: 0 }),
  };
};

const layered: Build = (s, { x }, c) => {
  const out: Record<string, Value> = {};
  let v = x!;
  (c.options.layers as string[]).forEach((text, i) => {
    const kind = text.slice(0, text.indexOf("("));
    const flag = (name: string) => text.includes(`${name}=True`);
    if (kind === "Linear")
      v = linear(s.child(i), v, Number(/out_features=(\d+)/.exec(text)![1]), { bias: flag("bias") });
    else if (kind === "BatchNorm1d")
      v = batchNorm(s.child(i), v, { affine: flag("affine"), epsilon: Number(/eps=([\d.e-]+)/.exec(text)![1]) });
    else v = Relu(v);
    out[`layer${i}_${kind}`] = v;
  });
  return { ...out, out: v };
};

/** The network of a variant; undefined: not built yet. */
function buildOf(variant: string): Build | undefined {
  if (variant === "resnet18" || variant === "resnet50")
    return (s, { image }, c) => classifier(s, resnetOutputs(variant, s, image!, {}), widthOf(c, "fc.weight"));
  if (variant === "resnet18-cifar-emp-encoder") return empEncoder;
  if (variant === "small-alexnet") return smallAlexNet;
  if (variant === "aps-vit-finetune") return apsFinetune;
  if (variant.startsWith("aps-vit")) return aps;
  if (variant === "cacr-moco-v3-vit") return mocoVit;
  return variant.startsWith("mlp-") ? layered : undefined;
}

const statistics = (data: Float32Array): Record<string, number[] | number> => {
  let [sum, square] = [0, 0];
  for (const v of data) {
    sum += v;
    square += v * v;
  }
  const mean = sum / data.length;
  return {
    mean,
    std: Math.sqrt(Math.max(0, square / data.length - mean * mean)),
    l2: Math.sqrt(square),
    first: [...data.subarray(0, 16)],
  };
};

/** A case's graph, with its inputs and weights by formula. */
function assembled(c: GoldenCase, build: Build, which: Mode, dialect: Dialect) {
  const { scope: root, collected } = rootScope(dialect, which);
  const scope = root.with({ convolutions: "exact" }); // tolerances are those of float32's direct convolutions
  const seed = c.options.seed as number;
  const images: Record<string, Value> = {};
  const feeds: Tensors = {};
  for (const [name, v] of Object.entries(
    c.inputs as Record<string, { shape: number[]; formula: { tensor_index: number; center: number; bound: number } }>,
  )) {
    images[name] = input(name, "float32", v.shape, { path: "", dialect });
    feeds[name] = formula(v.shape, v.formula.tensor_index, seed, v.formula.center, v.formula.bound);
  }
  // [token, image] → [image, token]
  for (const [name, v] of Object.entries((c.options.index ?? {}) as Record<string, GoldenTensor>)) {
    const [n, b] = v.shape as [number, number];
    images[name] = constantOf(
      tensor(
        "int64",
        [b, n],
        Array.from({ length: n * b }, (_, i) => v.data[(i % n) * b + Math.floor(i / n)]!),
      ),
    );
  }
  const outputs = build(scope, images, c);
  const weights = (c.options.weights as [string, number[], number, number][]).map(
    ([name, shape, center, bound], i) => [name, formula(shape, i, seed, center, bound)] as const,
  );
  Object.assign(feeds, Object.fromEntries(weights));
  const inputs = [
    ...Object.values(images).filter((v) => v.name),
    ...[...collected.parameters.values()].map((p) => p.value),
    ...[...collected.states.values()].map((e) => e.input),
  ];
  return { collected, images, outputs, inputs, feeds };
}

/** 1 where a ReLU's input is above 0 in float64, else 0: for each ReLU of a case. */
async function reluSides(engine: Parameters<Kind>[0], c: GoldenCase, build: Build, which: Mode): Promise<Tensor[]> {
  const { outputs, inputs, feeds } = assembled(c, build, which, "portable");
  const wide = widener();
  const relus = nodesOf(Object.values(outputs), "Relu").map((n, i) => [`relu${i}`, wide(n.inputs[0]!)] as const);
  const wideFeeds = Object.fromEntries(Object.entries(feeds).map(([name, t]) => [name, wideTensor(t)]));
  const values = await evaluate(engine, inputs.map(wide), Object.fromEntries(relus), wideFeeds);
  return relus.map(([name]) => {
    const { shape, data } = values[name]!;
    return tensor(
      "float32",
      shape,
      Array.from(data as Float64Array, (v) => Number(v > 0)),
    );
  });
}

/** Quantities of a case in one mode; with `sides`, its ReLUs pass what is given and `turned` counts where they would not have. */
async function mode(
  engine: Parameters<Kind>[0],
  c: GoldenCase,
  build: Build,
  which: Mode,
  dialect: Dialect,
  sides?: readonly Tensor[],
): Promise<Tensors> {
  const { collected, images, outputs: built, inputs, feeds } = assembled(c, build, which, dialect);
  const relus = sides ? nodesOf(Object.values(built), "Relu") : [];
  const pinned = withSides(relus, sides ?? []);
  const outputs = Object.fromEntries(Object.entries(built).map(([name, v]) => [name, pinned(v)]));
  const {
    multiplies,
    tensor_index: at,
    center,
    bound,
  } = c.options.coefficients as { multiplies: string; tensor_index: number; center: number; bound: number };
  const result = outputs[multiplies]!;
  const coefficients = formula(result.shape as number[], at, c.options.seed as number, center, bound);
  const scalar = ReduceSum(Mul(result, constantOf(coefficients)), { keepdims: 0 });
  const values = new Map<string, Value>([
    ...Object.entries(images).filter(([, v]) => v.name),
    ...[...collected.parameters].map(([n, p]) => [n, p.value] as [string, Value]),
  ]);
  const wanted = Object.keys(c.expect[which]);
  const wrt = wanted.flatMap((k) => (k.startsWith("grad:") ? [k.slice(5)] : []));
  const grads = gradients(
    scalar,
    wrt.map((n) => values.get(n)!),
  );
  const all: Record<string, Value> = {
    scalar,
    ...outputs,
    ...Object.fromEntries(wrt.map((n, i) => [`grad:${n}`, grads[i]!])),
  };
  for (const k of wanted) if (k.startsWith("after:")) all[k] = pinned(collected.states.get(k.slice(6))!.next!);
  const known = Object.fromEntries(wanted.flatMap((k) => (all[k] ? [[k, all[k]]] : [])));
  const turned = relus.map((n, i) => {
    const own = Cast(Greater(pinned(n.inputs[0]!), 0), "float32");
    return ReduceSum(Abs(Sub(own, constantOf(sides![i]!))), { keepdims: 0 });
  });
  if (turned.length) known.turned = turned.reduce((a, b) => Add(a, b));
  return evaluate(engine, inputs, known, feeds);
}

export const positionEmbedding: Kind = (_engine, c) => {
  const { grid_h: h, grid_w: w, embed_dim: d } = c.options as Record<string, number>;
  return Promise.resolve({ pos_embed: sinCosPositions(h!, w!, d!) });
};

/** Quantities that a stage inside a network would have to hand out; the ones after them cover them. */
const inside = /^(view1|global)_block\d+$/;

/**
 * Complaints of a network case in one dialect. Where gradients alone are off, some ReLU inputs may lie on the other side of 0 in float32
 * than in float64: the case is then judged, with the tolerances it has, with its ReLUs on the sides of float64.
 */
export async function networkComplaints(
  engine: Parameters<Kind>[0],
  c: GoldenCase,
  path: string,
  dialect: Dialect,
): Promise<{ complaints: string[]; note?: string } | undefined> {
  const build = buildOf(c.variant);
  if (!build) return undefined;
  const whole = await readFile(join(dirname(path), "networks.safetensors")).then(
    (b) => readSafetensors(b).tensors,
    () => ({}) as Tensors,
  );
  const complaints: string[] = [];
  let note: string | undefined;
  for (const which of Object.keys(c.expect) as Mode[]) {
    const plain = complaintsOf(c, whole, which, await mode(engine, c, build, which, dialect));
    if (!plain.length || !plain.every((l) => l.startsWith(`${which}.grad:`))) {
      complaints.push(...plain);
      continue;
    }
    const got = await mode(engine, c, build, which, dialect, await reluSides(engine, c, build, which));
    complaints.push(...complaintsOf(c, whole, which, got));
    note = `${Number(got.turned!.data[0])} ReLU inputs lie on the other side of 0 than in float64, and are put on its side`;
  }
  return { complaints, note };
}

function complaintsOf(c: GoldenCase, whole: Tensors, which: Mode, got: Tensors): string[] {
  const complaints: string[] = [];
  for (const [quantity, want] of Object.entries(
    c.expect[which] as Record<
      string,
      { shape: number[]; zero_up_to_rounding?: boolean; [k: string]: unknown } | number
    >,
  )) {
    const label = `${which}.${quantity}`;
    if (inside.test(quantity)) continue;
    const t = got[quantity];
    if (!t) {
      complaints.push(`${label}: not computed`);
      continue;
    }
    const tolerance = (c.tolerance.float32[label] as number) ?? 2e-5;
    if (typeof want === "number") {
      complaints.push(...distance(label, [Number(t.data[0])], [want], tolerance * Math.abs(want)));
      continue;
    }
    const data = t.data as Float32Array;
    const full = whole[`${c.name}.${label}`];
    if (full)
      complaints.push(
        ...distance(
          label,
          [...data],
          [...(full.data as Float32Array)],
          tolerance * largest([...(full.data as Float32Array)]),
        ),
      );
    const own = statistics(data);
    const scale = Math.max(largest(expected(want.first)), Math.abs(want.l2 as number) / Math.sqrt(sizeOf(want.shape)));
    // an exact zero leaves only rounding: of the size of what cancelled
    const limit = want.zero_up_to_rounding ? 1e-3 : tolerance * scale;
    complaints.push(
      ...distance(
        `${label} first`,
        (own.first as number[]).slice(0, expected(want.first).length),
        expected(want.first),
        limit,
      ),
    );
    for (const k of ["mean", "std"])
      complaints.push(...distance(`${label} ${k}`, [own[k] as number], [want[k] as number], limit));
    complaints.push(
      ...distance(
        `${label} l2`,
        [own.l2 as number],
        [want.l2 as number],
        Math.max(tolerance * (want.l2 as number), limit),
      ),
    );
  }
  return complaints;
}
