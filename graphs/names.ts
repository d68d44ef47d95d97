/**
 * Names of weights in other toolkits: one table a toolkit, read both ways. Ours are torchvision's for ResNets, APS' for its ViT, timm's for
 * MoCo-v3's ViT. Each pair is [ours, theirs]: the beginning of a name up to a dot, {n} a number and {n+1} that number and one more; the
 * first pair that fits decides, and a name that none fits is the same there.
 */
import { bytesOf, fromBytes, zeros, type Tensor, type Tensors } from "../src/tensor.js";

type Pair = readonly [ours: string, theirs: string];

export interface Naming {
  readonly summary: string;
  readonly pairs: readonly Pair[];
  /** What their whole models put before a backbone's names. */
  readonly prefix?: string;
  /** Tensors that are laid out differently there; both work on tensors under our names. */
  readonly layout?: { to(ours: Tensors): Tensors; from(theirs: Tensors): Tensors };
}

/** detectron2 numbers the stages from 2, and a BatchNorm stands below its convolution: MoCo's convert-pretrain-to-detectron2.py. */
const detectron2: readonly Pair[] = [
  ["bn1", "stem.conv1.norm"],
  ["conv1", "stem.conv1"],
  ["layer{n}.{b}.bn{k}", "res{n+1}.{b}.conv{k}.norm"],
  ["layer{n}.{b}.conv{k}", "res{n+1}.{b}.conv{k}"],
  ["layer{n}.{b}.downsample.1", "res{n+1}.{b}.shortcut.norm"],
  ["layer{n}.{b}.downsample.0", "res{n+1}.{b}.shortcut"],
];

const timm: readonly Pair[] = [
  ["patchify", "patch_embed.proj"],
  ["pos_embedding", "pos_embed"],
  ["transformer.{n}", "blocks.{n}"],
  ["layer_norm", "norm"],
];

export const namings = {
  own: { summary: "the reference implementation", pairs: [] },
  torchvision: { summary: "torchvision's ResNets", pairs: [] },
  timm: { summary: "timm's ResNets and VisionTransformer", pairs: timm, layout: { to: withClass, from: withoutClass } },
  detectron2: { summary: "detectron2's ResNets", pairs: detectron2 },
  mmdet: { summary: "mmdetection's and mmsegmentation's ResNets", pairs: [], prefix: "backbone." },
} satisfies Record<string, Naming>;
export type NamingName = keyof typeof namings;

/** Our tensors as a toolkit names and lays them out. */
export function toTheirs(naming: Naming, ours: Tensors): Tensors {
  const laidOut = naming.layout?.to(ours) ?? ours;
  const { prefix = "" } = naming;
  return renamed(laidOut, (name) => prefix + theirName(naming, name));
}

/** A toolkit's tensors, without its prefix, as ours. */
export function toOurs(naming: Naming, theirs: Tensors): Tensors {
  const named = renamed(theirs, (name) => translated(name, naming.pairs, 1));
  return naming.layout?.from(named) ?? named;
}

/** What a toolkit calls one of our names, without its prefix. */
export const theirName = (naming: Naming, name: string): string => translated(name, naming.pairs, 0);

const renamed = (tensors: Tensors, rename: (name: string) => string): Tensors =>
  Object.fromEntries(Object.entries(tensors).map(([name, t]) => [rename(name), t]));

function translated(name: string, pairs: readonly Pair[], from: 0 | 1): string {
  for (const pair of pairs) {
    const match = reading(pair[from]).exec(name);
    if (match) return written(pair[1 - from]!, match.groups ?? {}, shiftOf(pair[from])) + name.slice(match[0].length);
  }
  return name;
}

const number = /\{(\w)(\+1)?\}/g;
const shiftOf = (template: string): string[] => [...template.matchAll(number)].flatMap(([, n, up]) => (up ? [n!] : []));

/** "res{n+1}" → ^res(?<n>\d+) up to a dot or the end */
const reading = (template: string): RegExp =>
  new RegExp(`^${template.replace(/\./g, "\\.").replace(number, (_, n: string) => `(?<${n}>\\d+)`)}(?=\\.|$)`);

/** The template with its numbers put in; those in `shifted` were read one too high. */
const written = (template: string, numbers: Record<string, string>, shifted: readonly string[]): string =>
  template.replace(number, (_, n: string, up?: string) =>
    String(Number(numbers[n]) + (up ? 1 : 0) - (shifted.includes(n) ? 1 : 0)),
  );

/** pos_embedding [N,1,D] without a place for the class token → [1,1+N,D] with zeros there. */
function withClass(ours: Tensors): Tensors {
  const positions = ours.pos_embedding;
  if (!positions) return ours;
  const [n, , d] = positions.shape as [number, number, number];
  const out = zeros("float32", [1, 1 + n, d]);
  out.data.set(positions.data as Float32Array, d);
  return { ...ours, pos_embedding: out };
}

/** [1,1+N,D] → [N,1,D]; what was added to the class token is part of the token from now on. */
function withoutClass(theirs: Tensors): Tensors {
  const { pos_embedding: positions, cls_token: token } = theirs;
  if (positions?.shape.length !== 3 || positions.shape[0] !== 1) return theirs;
  const [, rows, d] = positions.shape as [number, number, number];
  const own = Number.isInteger(Math.sqrt(rows)) ? 0 : 1; // a grid has n² places; one more is the class token's
  const grid = fromBytes("float32", [rows - own, 1, d], bytesOf(positions).subarray(4 * own * d));
  if (!own || !token) return { ...theirs, pos_embedding: grid };
  return { ...theirs, pos_embedding: grid, cls_token: sum(token, positions.data as Float32Array) };
}

/** t with the first entries of `more` added. */
function sum(t: Tensor, more: Float32Array): Tensor {
  const out = zeros("float32", t.shape);
  for (let i = 0; i < out.data.length; i++) out.data[i] = Number(t.data[i]) + more[i]!;
  return out;
}
