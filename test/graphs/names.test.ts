import assert from "node:assert/strict";
import { network } from "../../graphs/encoder.js";
import { namings, theirName, toOurs, toTheirs } from "../../graphs/names.js";
import { rootScope } from "../../graphs/scope.js";
import type { BackboneName } from "../../graphs/backbones/index.js";
import { input } from "../../src/onnx/graph.js";
import { initialTensors } from "../../src/step.js";
import { tensor, type Tensors } from "../../src/tensor.js";

function weights(name: BackboneName, given: object): Tensors {
  const { backbone, options } = network(name, given);
  const { scope, collected } = rootScope("portable", "eval");
  backbone.forward(scope, input("image", "float32", [1, 3, 32, 32]), options);
  const state = [...collected.states].map(([name, { input, init }]) => ({ name, input, init, next: input }));
  return initialTensors({ parameters: [...collected.parameters.values()], state }, 0);
}

/** MoCo's detection/convert-pretrain-to-detectron2.py, line by line. */
function mocoConverted(name: string): string {
  let k = name;
  if (!k.includes("layer")) k = `stem.${k}`;
  for (const t of [1, 2, 3, 4]) k = k.replace(`layer${t}`, `res${t + 1}`);
  for (const t of [1, 2, 3]) k = k.replace(`bn${t}`, `conv${t}.norm`);
  return k.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm");
}

describe("names in other toolkits", () => {
  const resnet = weights("resnet50", { width: 2 });

  it("are detectron2's as MoCo's converter writes them", () => {
    assert.deepEqual(Object.keys(toTheirs(namings.detectron2, resnet)), Object.keys(resnet).map(mocoConverted));
  });
  it("are mmdetection's below backbone.", () => {
    assert.deepEqual(
      Object.keys(toTheirs(namings.mmdet, resnet)),
      Object.keys(resnet).map((k) => `backbone.${k}`),
    );
  });
  it("lead back to ours", () => {
    const vit = weights("vitTiny", { embedDim: 8, depth: 2, numHeads: 2, patchSize: 8, qkvBias: true });
    for (const [naming, ours] of [
      [namings.detectron2, resnet],
      [namings.timm, resnet],
      [namings.timm, vit],
    ] as const)
      assert.deepEqual(toOurs(naming, toTheirs(naming, ours)), ours);
  });
  it("are timm's for a ViT, with a zero position for the class token", () => {
    const there = toTheirs(namings.timm, weights("vitTiny", { embedDim: 8, depth: 1, numHeads: 2, patchSize: 8 }));
    assert.deepEqual(there.pos_embed!.shape, [1, 17, 8]);
    assert.ok(there.pos_embed!.data.subarray(0, 8).every((v) => v === 0));
    assert.deepEqual(
      Object.keys(there).filter((k) => !k.startsWith("blocks.0.")),
      ["patch_embed.proj.weight", "patch_embed.proj.bias", "pos_embed", "cls_token", "norm.weight", "norm.bias"],
    );
    assert.equal(theirName(namings.timm, "transformer.11.attn.qkv.weight"), "blocks.11.attn.qkv.weight");
  });
  it("add timm's position of the class token to our class token", () => {
    const there = {
      cls_token: tensor("float32", [1, 1, 2], [1, 2]),
      pos_embed: tensor("float32", [1, 5, 2], [10, 20, 1, 1, 2, 2, 3, 3, 4, 4]),
    };
    assert.deepEqual(toOurs(namings.timm, there), {
      cls_token: tensor("float32", [1, 1, 2], [11, 22]),
      pos_embedding: tensor("float32", [4, 1, 2], [1, 1, 2, 2, 3, 3, 4, 4]),
    });
  });
});
