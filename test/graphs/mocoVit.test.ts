import assert from "node:assert/strict";
import { network } from "../../graphs/encoder.js";
import { rootScope } from "../../graphs/scope.js";
import { input } from "../../src/onnx/graph.js";

describe("MoCo-v3's ViT", () => {
  it("trains neither its positions nor, where asked, its patch projection", () => {
    const frozenIn = (stopGradConv1: boolean): string[] => {
      const { backbone, options } = network("mocoVitSmall", {
        embedDim: 16,
        depth: 1,
        numHeads: 2,
        patchSize: 4,
        stopGradConv1,
      });
      const { scope, collected } = rootScope("training");
      backbone.forward(scope, input("image", "float32", [2, 3, 16, 16]), options);
      return [...collected.parameters.values()].filter((p) => !p.trainable).map((p) => p.name);
    };
    assert.deepEqual(frozenIn(false), ["pos_embed"]);
    assert.deepEqual(frozenIn(true), ["patch_embed.proj.weight", "patch_embed.proj.bias", "pos_embed"]);
  });
});
