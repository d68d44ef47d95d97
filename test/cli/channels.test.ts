import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { evaluators } from "../../evaluators/index.js";
import { judged } from "../../cli/evaluate.js";
import { features } from "../../cli/inference/look.js";
import { encoderAt } from "../../cli/inference/source.js";
import { resolveRecipe } from "../../cli/recipes/schema.js";
import { pretrain, viewsOf } from "../../cli/run.js";
import { pack } from "../../src/data/packed.js";
import { openStore } from "../../src/data/imageFolder.js";
import { readModel } from "../../src/onnx/model.js";
import { random } from "../../src/random.js";
import type { Channels } from "../../src/views.js";
import { trainingEngine } from "../engine.js";

describe("images of one channel and of four", function () {
  this.timeout(120_000);
  let dir: string;
  let photos: string;
  before(async () => {
    dir = mkdtempSync(join(tmpdir(), "channels-"));
    photos = join(dir, "photos");
    const r = random(0, "photos");
    for (let i = 0; i < 24; i++) {
      const folder = join(photos, ["faint", "strong"][i % 2]!);
      mkdirSync(folder, { recursive: true });
      const noise = Buffer.from(
        Array.from({ length: 4 * 24 * 20 }, (_, k) => (k % 4 === 3 ? 60 + 150 * (i % 2) : 60) + r.integer(40)),
      );
      await sharp(noise, { raw: { width: 24, height: 20, channels: 4 } })
        .png()
        .toFile(join(folder, `${i}.png`));
    }
  });
  after(() => rmSync(dir, { recursive: true }));

  const recipe = (root: string, channels: Channels, method: object, backbone: object) =>
    resolveRecipe({
      data: { root, size: 16, channels },
      backbone,
      method: { hiddenDim: 16, outDim: 8, ...method },
      optimizer: { name: "sgd", lr: 0.05 },
      batchSize: 8,
      epochs: 1,
    });
  async function trained(name: string, root: string, channels: Channels, method: object, backbone: object) {
    const said: string[] = [];
    const result = await pretrain({
      recipe: recipe(root, channels, method, backbone),
      recipeName: name,
      out: join(dir, name),
      engine: await trainingEngine(),
      resume: false,
      listener: { say: (line) => said.push(line) },
      stopping: () => false,
    });
    assert.equal(result.steps, 3);
    assert.ok(Number.isFinite(result.loss.last));
    return { encoder: result.encoder, said };
  }
  const inputOf = (encoder: string) => readModel(readFileSync(encoder)).inputs[0]!.shape;
  async function knnOf(encoder: string): Promise<string[]> {
    const flags = { data: photos, scratch: false, patches: 1, "patch-scale": 0.25, cache: false, say: () => undefined };
    const options = { ...evaluators.knn.defaults, k: [1] };
    const { rows } = await judged(await trainingEngine(), evaluators.knn as never, options, encoder, flags);
    return rows.map((row) => row.name);
  }

  it("train, are judged and are looked at with alpha", async () => {
    const resnet = { name: "resnet18", stem: "cifar", width: 4 };
    const { encoder } = await trained("alpha", photos, 4, { name: "simclr" }, resnet);
    assert.deepEqual(inputOf(encoder), ["B", 4, "H", "W"]);
    const { mean, std } = JSON.parse(readModel(readFileSync(encoder)).metadata.diptych!) as Record<string, number[]>;
    assert.deepEqual([mean![3], std![3]], [0, 1]);
    assert.deepEqual(await knnOf(encoder), ["features", "random weights", "raw pixels"]);
    const [file, out] = [join(photos, "strong", "1.png"), join(dir, "features.png")];
    const shown = await features(await trainingEngine(), await encoderAt(encoder, {}), [file], { side: 32, out });
    assert.deepEqual(shown[0]!.map.length, 3);
  });

  it("train and are judged in grey, from a packed folder too", async () => {
    const vit = { name: "vitTiny", embedDim: 16, depth: 1, numHeads: 2, patchSize: 4 };
    const packed = join(dir, "grey.safetensors");
    await pack(await openStore(photos), packed, { shortSide: 20, channels: 1 });
    const { encoder, said } = await trained("grey", packed, 1, { name: "simclr" }, vit);
    assert.ok(
      said.some((line) => line.includes("no colours")),
      said.join("\n"),
    );
    assert.deepEqual(inputOf(encoder), ["B", 1, 16, 16]);
    assert.deepEqual(await knnOf(encoder), ["features", "random weights", "raw pixels"]);
  });

  it("are as many as a recipe may name, and have as many statistics", () => {
    const resnet = { name: "resnet18" };
    const normalize = { mean: [0.5, 0.5], std: [0.5, 0.5] };
    const two = recipe(photos, 4, { name: "simclr", view: { normalize } }, resnet);
    assert.throws(() => viewsOf(two), /Expected 4 means and deviations, one a channel, but received 2 and 2/);
    assert.throws(() => recipe(photos, 2 as Channels, { name: "simclr" }, resnet), /one of 1, 3, 4 for data.channels/);
  });
});
