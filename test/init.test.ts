import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { initialWeights } from "../cli/init.js";
import { methods } from "../graphs/methods/index.js";
import { writeSafetensors } from "../src/artifacts/safetensors.js";
import { random } from "../src/random.js";
import { sizeOf, tensor, type Tensors } from "../src/tensor.js";
import { tinyStep } from "./tinyRun.js";

/** The state dict of timm 1.0's VisionTransformer(img_size=16, patch_size=4, embed_dim=32, depth=2, qkv_bias=False). */
function timmWeights(): Tensors {
  const block = (i: number): Record<string, number[]> => ({
    [`blocks.${i}.norm1.weight`]: [32],
    [`blocks.${i}.norm1.bias`]: [32],
    [`blocks.${i}.attn.qkv.weight`]: [96, 32],
    [`blocks.${i}.attn.proj.weight`]: [32, 32],
    [`blocks.${i}.attn.proj.bias`]: [32],
    [`blocks.${i}.norm2.weight`]: [32],
    [`blocks.${i}.norm2.bias`]: [32],
    [`blocks.${i}.mlp.fc1.weight`]: [128, 32],
    [`blocks.${i}.mlp.fc1.bias`]: [128],
    [`blocks.${i}.mlp.fc2.weight`]: [32, 128],
    [`blocks.${i}.mlp.fc2.bias`]: [32],
  });
  const shapes = {
    cls_token: [1, 1, 32],
    pos_embed: [1, 17, 32],
    "patch_embed.proj.weight": [32, 3, 4, 4],
    "patch_embed.proj.bias": [32],
    ...block(0),
    ...block(1),
    "norm.weight": [32],
    "norm.bias": [32],
    "head.weight": [10, 32],
    "head.bias": [10],
  };
  const r = random(0, "timm");
  return Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => [
      name,
      tensor(
        "float32",
        shape,
        Array.from({ length: sizeOf(shape) }, () => r.normal()),
      ),
    ]),
  );
}

describe("--init with timm's ViT", () => {
  for (const prefix of ["", "model."])
    it(`fills the whole network, whatever stands before the names ("${prefix}")`, async () => {
      const dir = mkdtempSync(join(tmpdir(), "init-"));
      const theirs = timmWeights();
      const prefixed = Object.fromEntries(Object.entries(theirs).map(([name, t]) => [prefix + name, t]));
      writeFileSync(join(dir, "vit.safetensors"), writeSafetensors(prefixed));
      const said: string[] = [];
      const { encoder } = methods.simclr;
      const step = tinyStep("simclr", "portable", "vit");
      const got = await initialWeights(join(dir, "vit.safetensors"), step, encoder, (line) => said.push(line));
      rmSync(dir, { recursive: true });

      assert.match(
        said.join(" "),
        /28 tensors matched( below model)?, 0 of the network start fresh, 2 of the file unused \(head\.weight/,
      );
      const same = (ours: string, data: Float32Array): void =>
        assert.deepEqual([...got[`${encoder}.${ours}`]!.data], [...data], ours);
      const data = (name: string): Float32Array => theirs[name]!.data as Float32Array;
      same("transformer.1.attn.qkv.weight", data("blocks.1.attn.qkv.weight"));
      same("patchify.bias", data("patch_embed.proj.bias"));
      same("layer_norm.weight", data("norm.weight"));
      same("pos_embedding", data("pos_embed").subarray(32));
      same(
        "cls_token",
        data("cls_token").map((v, i) => v + data("pos_embed")[i]!),
      );
    });
});
