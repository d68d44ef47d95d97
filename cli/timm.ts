/** timm's names of a ViT (https://github.com/huggingface/pytorch-image-models) in ours. */
import { tensor, type Tensor, type Tensors } from "../src/tensor.js";

const renamings: [theirs: RegExp, ours: string][] = [
  [/^patch_embed\.proj\./, "patchify."],
  [/^blocks\./, "transformer."],
  [/^norm\./, "layer_norm."],
];

/**
 * The weights of a timm ViT by our names, any others as they are. Its positions [1,1+N,D] hold the class token's first; ours
 * [N,1,D] hold none, so that row is added to the class token, which comes to the same.
 */
export function fromTimm(weights: Tensors, say: (line: string) => void): Tensors {
  const position = Object.keys(weights).find((name) => name.endsWith("pos_embed"));
  const prefix = position?.slice(0, -"pos_embed".length);
  const [cls, all] = [weights[`${prefix}cls_token`], weights[position ?? ""]];
  if (!cls || !all || !(`${prefix}blocks.0.norm1.weight` in weights)) return weights;
  const out: Tensors = {};
  for (const [name, t] of Object.entries(weights)) {
    const short = name.startsWith(prefix!) ? name.slice(prefix!.length) : name;
    const renaming = renamings.find(([theirs]) => theirs.test(short));
    out[renaming ? short.replace(...renaming) : short] = t;
  }
  delete out.pos_embed;
  const width = cls.shape[2]!;
  const row = (t: Tensor, i: number): number[] => Array.from(t.data.subarray(i * width, (i + 1) * width), Number);
  const first = row(all, 0);
  const placed = row(cls, 0).map((v, i) => v + first[i]!);
  out.cls_token = tensor("float32", cls.shape, placed);
  const patches = all.shape[1]! - 1;
  out.pos_embedding = tensor("float32", [patches, 1, width], Array.from(all.data.subarray(width), Number));
  say(
    "timm's ViT: blocks → transformer, patch_embed.proj → patchify, norm → layer_norm, pos_embed → pos_embedding, its first row added to cls_token.",
  );
  if (Object.keys(out).some((name) => name.endsWith("qkv.bias")))
    say(
      "its attention has biases and its LayerNorms ε = 1e-6: --set backbone.qkvBias=true --set backbone.epsilon=1e-6.",
    );
  return out;
}
