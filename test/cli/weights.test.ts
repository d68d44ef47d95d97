import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exportEncoder } from "../../cli/export.js";
import { initialWeights } from "../../cli/init.js";
import { below, encoderModel } from "../../graphs/encoder.js";
import { namings, toTheirs } from "../../graphs/names.js";
import { readPth, writePth } from "../../src/artifacts/pth.js";
import { readSafetensors } from "../../src/artifacts/safetensors.js";
import { initialTensors } from "../../src/step.js";
import { tensor, type Tensors } from "../../src/tensor.js";
import { tinyInfo, tinyStep } from "../tinyRun.js";

const encoder = "student.backbone";
const resnet = tinyStep("simclr", "portable");
const vit = tinyStep("simclr", "portable", "vit");
const weightsOf = (step: typeof resnet, seed: number): Tensors => below(encoder, initialTensors(step, seed));
const renamed = (t: Tensors, name: (n: string) => string): Tensors =>
  Object.fromEntries(Object.entries(t).map(([n, v]) => [name(n), v]));

describe("weights between toolkits", () => {
  const dir = mkdtempSync(join(tmpdir(), "weights-"));
  after(() => rmSync(dir, { recursive: true }));
  const weights = weightsOf(resnet, 5);

  describe("--init", () => {
    const taken = async (name: string, content: Uint8Array, step = resnet) => {
      writeFileSync(join(dir, name), content);
      let said = "";
      const got = await initialWeights(join(dir, name), step, encoder, (line) => (said += `${line}\n`));
      return { got: below(encoder, got), said };
    };

    it("takes the query encoder of a MoCo checkpoint, and says what it left", async () => {
      const checkpoint = {
        epoch: 200,
        arch: "resnet50",
        state_dict: {
          ...renamed(weights, (n) => `module.encoder_q.${n}`),
          "module.encoder_q.fc.0.weight": tensor("float32", [2], [1, 2]),
          ...renamed(weightsOf(resnet, 6), (n) => `module.encoder_k.${n}`),
          "module.queue": tensor("float32", [2], [1, 2]),
        },
        optimizer: { state: { momentum: tensor("float32", [1], [0]) } },
      };
      const { got, said } = await taken("moco.pth.tar", writePth(checkpoint));
      assert.deepEqual(got, weights);
      assert.match(
        said,
        /100 tensors matched below state_dict\.module\.encoder_q, 0 of the network start fresh, 1 of the file unused \(fc\.0\.weight\), 102 elsewhere in it not looked at\. Its names are those of the reference implementation\./,
      );
    });
    it("takes detectron2's, mmdetection's and timm's files", async () => {
      const d2 = { model: toTheirs(namings.detectron2, weights), __author__: "MOCO", matching_heuristics: true };
      assert.deepEqual((await taken("d2.pth", writePth(d2))).got, weights);
      const mm = { meta: {}, state_dict: toTheirs(namings.mmdet, weights) };
      assert.deepEqual((await taken("mm.pth", writePth(mm))).got, weights);
      const own = weightsOf(vit, 5);
      assert.deepEqual((await taken("timm.pth", writePth(toTheirs(namings.timm, own)), vit)).got, own);
    });
    it("brings other dtypes to float32", async () => {
      const wide = Object.fromEntries(
        Object.entries(weights).map(([n, t]) => [n, tensor("float64", t.shape, t.data as Float32Array)]),
      );
      assert.deepEqual((await taken("wide.pt", writePth(wide))).got, weights);
    });
    it("names what has another shape, and starts that fresh", async () => {
      const odd = { ...weights, "conv1.weight": tensor("float32", [1], [0]) };
      const { got, said } = await taken("odd.pth", writePth(odd));
      assert.equal(Object.keys(got).length, Object.keys(weights).length - 1);
      assert.match(said, /not taken: conv1\.weight is \[1\] there, \[8,3,3,3\] here/);
    });
    it("refuses a file of which nothing fits", async () => {
      await assert.rejects(
        taken("other.pth", writePth({ a: tensor("float32", [1], [0]) })),
        /none of its 1 tensors fits this network \(it has a, …\)/,
      );
      await assert.rejects(taken("text.pth", Buffer.from("hello")), /cannot be read: Not a PyTorch file of weights/);
    });
  });

  describe("export", () => {
    const info = tinyInfo("resnet18", { stem: "cifar", width: 8 }, { resize: 18 });
    const file = join(dir, "encoder.onnx");
    before(() => writeFileSync(file, encoderModel(info, weights)));
    const out = join(dir, "out");

    it("writes torchvision's names with num_batches_tracked after each running_var", async () => {
      const { keys, tensors } = await exportEncoder(file, { format: "pth", out });
      const got = readPth(readFileSync(out));
      assert.equal(keys, "torchvision");
      assert.equal(tensors, Object.keys(got).length);
      const counters = Object.keys(got).filter((n) => n.endsWith("num_batches_tracked"));
      assert.equal(counters.length, 20);
      for (const n of counters) delete got[n];
      assert.deepEqual(got, weights);
    });
    it("wraps detectron2's and mmdetection's as their loaders expect, and prints their settings", async () => {
      const d2 = await exportEncoder(file, { format: "pth", keys: "detectron2", out });
      assert.ok("model.res2.0.conv1.norm.running_var" in readPth(readFileSync(out)));
      for (const line of ["PIXEL_MEAN: [127.5, 127.5, 127.5]", "STRIDE_IN_1X1: False", 'FORMAT: "RGB"', "DEPTH: 18"])
        assert.ok(d2.snippet.includes(line), line);
      const mm = await exportEncoder(file, { format: "pth", keys: "mmdet", out });
      assert.ok("state_dict.backbone.layer1.0.bn1.running_var" in readPth(readFileSync(out)));
      assert.match(mm.snippet, /std=\[63\.75, 63\.75, 63\.75\], bgr_to_rgb=True/);
    });
    it("writes safetensors under the same names, and ONNX as it is", async () => {
      await exportEncoder(file, { format: "safetensors", keys: "detectron2", out });
      assert.ok("stem.conv1.weight" in readSafetensors(readFileSync(out)).tensors);
      await exportEncoder(file, { format: "onnx", out });
      assert.deepEqual(readFileSync(out), readFileSync(file));
    });
    it("answers a mistake in a sentence", async () => {
      const small = weightsOf(vit, 0);
      const options = { embedDim: 32, depth: 2, numHeads: 2, patchSize: 4 };
      writeFileSync(join(dir, "vit.onnx"), encoderModel({ ...info, backbone: "vitTiny", options }, small));
      await assert.rejects(
        exportEncoder(join(dir, "vit.onnx"), { format: "pth", keys: "mmdet", out }),
        /--keys mmdet names .*ResNets; this encoder is a vitTiny\. Use --keys timm\./,
      );
      await assert.rejects(exportEncoder(dir + "/none", { format: "onnx", out }), /no run and no encoder at/);
      await assert.rejects(exportEncoder(file, { format: "onnx", keys: "timm", out }), /leave --keys timm out/);
    });
  });
});
