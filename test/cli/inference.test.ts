import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parquetReadObjects } from "hyparquet";
import sharp from "sharp";
import { embed, type EmbedOptions } from "../../cli/inference/embed.js";
import { attention, correspond, features, neighbors } from "../../cli/inference/look.js";
import { spreadOut } from "../../cli/inference/pictures.js";
import { encoderAt, imagesIn, type Encoder } from "../../cli/inference/source.js";
import { extractFeatures, imageBatches } from "../../evaluators/features.js";
import { mutualMatches } from "../../evaluators/maps.js";
import { attentionModel, below, encoderModel, initialWeights } from "../../graphs/encoder.js";
import type { Dataset } from "../../src/data/index.js";
import { input } from "../../src/onnx/graph.js";
import { toModel } from "../../src/onnx/model.js";
import { Relu } from "../../src/ops/index.js";
import { random } from "../../src/random.js";
import { initialTensors } from "../../src/step.js";
import { tensor, zeros, type Tensors } from "../../src/tensor.js";
import { portableEngine } from "../engine.js";
import { tinyInfo, tinyStep } from "../tinyRun.js";

const engine = portableEngine();
const bin = fileURLToPath(new URL("../../../bin/diptych.cjs", import.meta.url));

describe("inference", function () {
  this.timeout(120_000);
  const dir = mkdtempSync(join(tmpdir(), "inference-"));
  after(() => rmSync(dir, { recursive: true }));
  const photos = join(dir, "photos");
  let encoder: Encoder;
  let data: Dataset;
  let want: Awaited<ReturnType<typeof extractFeatures>>;

  before(async () => {
    mkdirSync(photos);
    const r = random(0, "photos");
    for (let i = 0; i < 70; i++) {
      const pixels = Buffer.from(Array.from({ length: 3 * 20 * 20 }, () => r.integer(256)));
      await sharp(pixels, { raw: { width: 20, height: 20, channels: 3 } })
        .png()
        .toFile(join(photos, `${String(i).padStart(3, "0")}.png`));
    }
    const step = tinyStep("simclr", "portable");
    const weights = below("student.backbone", initialTensors(step, 0));
    const info = tinyInfo("resnet18", { stem: "cifar", width: 8 });
    writeFileSync(join(dir, "encoder.onnx"), encoderModel(info, weights));
    encoder = await encoderAt(join(dir, "encoder.onnx"), {});
    data = await imagesIn(photos, encoder);
    want = await extractFeatures(engine, encoder.bytes, imageBatches(engine, data, encoder.preprocessing), data.length);
  });

  describe("embed", () => {
    const said: string[] = [];
    const written = (name: string, more: Partial<EmbedOptions> = {}, from = data) =>
      embed(engine, encoder.bytes, from, {
        out: join(dir, name),
        dense: false,
        preprocessing: encoder.preprocessing,
        say: (line) => said.push(line),
        progress: () => undefined,
        ...more,
      });
    const npy = (name: string): { header: string; data: Float32Array } => {
      const bytes = readFileSync(join(dir, name));
      const start = 10 + bytes.readUInt16LE(8);
      return {
        header: bytes.subarray(10, start).toString(),
        data: new Float32Array(bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + bytes.length)),
      };
    };

    it("writes the same rows as NumPy, CSV, JSON lines and Parquet", async () => {
      const result = await written("f.npy");
      assert.deepEqual([result.images, result.shape, result.broken], [70, [64], []]);
      assert.match(npy("f.npy").header, /'descr': '<f4', 'fortran_order': False, 'shape': \(70, 64\)/);
      assert.deepEqual(npy("f.npy").data, want.data);
      assert.equal(readFileSync(join(dir, "f.txt"), "utf8").split("\n")[69], "069.png");

      await written("f.csv");
      const [head, first] = readFileSync(join(dir, "f.csv"), "utf8").split("\n");
      assert.match(head!, /^path,f0,f1,.*,f63$/);
      assert.deepEqual(
        first!
          .split(",")
          .slice(1)
          .map((v) => Math.fround(Number(v))),
        [...want.data.subarray(0, 64)],
      );

      await written("f.jsonl");
      const row = JSON.parse(readFileSync(join(dir, "f.jsonl"), "utf8").split("\n")[1]!) as {
        path: string;
        features: number[];
      };
      assert.deepEqual([row.path, row.features], ["001.png", [...want.data.subarray(64, 128)]]);

      await written("f.parquet");
      const bytes = readFileSync(join(dir, "f.parquet"));
      const rows = await parquetReadObjects({
        file: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer,
      });
      assert.equal(rows.length, 70);
      assert.deepEqual(
        [rows[2]!.path, [...(rows[2]!.features as number[])]],
        ["002.png", [...want.data.subarray(128, 192)]],
      );
    });
    it("goes on where a stopped run was, and ends with the same file", async () => {
      const stop = () => {
        throw new Error("stopped");
      };
      await assert.rejects(written("g.npy", { progress: stop }), /stopped/);
      assert.ok(existsSync(join(dir, "g.npy.partial")));
      said.length = 0;
      await written("g.npy");
      assert.deepEqual(said, ["Going on after 64 of 70 images."]);
      assert.deepEqual(npy("g.npy").data, want.data);
      assert.ok(!existsSync(join(dir, "g.npy.partial")) && !existsSync(join(dir, "g.npy.partial.txt")));
    });
    it("begins anew where the earlier run was of something else", async () => {
      const stop = () => {
        throw new Error("stopped");
      };
      await assert.rejects(written("h.npy", { progress: stop }), /stopped/);
      said.length = 0;
      const other = await written("h.npy", { preprocessing: { size: 20, resize: 20, channels: 3 } });
      assert.deepEqual([other.images, said], [70, []]);
    });
    it("leaves out what cannot be read, and says so", async () => {
      const torn: Dataset = {
        ...data,
        key: (i) => data.key(i),
        image: (i) => (i === 3 ? Promise.reject(new Error("torn")) : data.image(i)),
      };
      said.length = 0;
      const result = await written("torn.npy", {}, torn);
      assert.deepEqual([result.images, result.broken], [69, ["003.png"]]);
      assert.deepEqual(said, ["003.png cannot be read and has no row: torn"]);
      assert.deepEqual(npy("torn.npy").data.subarray(3 * 64, 4 * 64), want.data.subarray(4 * 64, 5 * 64));
    });
    it("writes dense maps", async () => {
      const { shape } = await written("d.npy", { dense: true });
      assert.deepEqual(shape, [64, 2, 2]);
      const [first] = npy("d.npy").data;
      assert.ok(Number.isFinite(first));
      // the features are the maps' means
      const mean =
        npy("d.npy")
          .data.subarray(0, 4)
          .reduce((a, b) => a + b) / 4;
      assert.ok(Math.abs(mean - want.data[0]!) < 1e-5);
    });
    it("answers a mistake in a sentence", async () => {
      await assert.rejects(
        written("f.xlsx"),
        /Unknown kind of file "\.xlsx"\. Available: \.csv, \.jsonl, \.npy, \.parquet/,
      );
      await assert.rejects(written("d.csv", { dense: true }), /Dense maps are written as \.npy, not as \.csv/);
    });
  });

  it("neighbors finds a copy first, and draws a sheet and a page", async () => {
    const o = { count: 3, k: 4, seed: 1, out: join(dir, "n.png"), progress: () => undefined };
    const [row] = await neighbors(engine, encoder, data, { ...o, query: join(photos, "005.png") });
    assert.equal(row!.neighbors[0]!.path, "005.png");
    assert.ok(Math.abs(row!.neighbors[0]!.similarity - 1) < 1e-4);
    const own = await neighbors(engine, encoder, data, { ...o, out: join(dir, "n.html") });
    assert.equal(own.length, 3);
    for (const { query, neighbors: found } of own) assert.ok(found.every((f) => f.path !== query));
    const { width, height } = await sharp(join(dir, "n.png")).metadata();
    assert.ok(width > 5 * 144 && height > 144);
    assert.match(readFileSync(join(dir, "n.html"), "utf8"), /<img src="data:image\/jpeg;base64,/);
  });

  it("has a command for each, and prints one object with --json", () => {
    const run = (...args: string[]) => {
      const { status, stdout, stderr } = spawnSync(process.execPath, [bin, ...args, "--json"], { encoding: "utf8" });
      assert.equal(status, 0, stderr);
      return JSON.parse(stdout) as Record<string, unknown>;
    };
    const file = join(dir, "encoder.onnx");
    const photo = join(photos, "000.png");
    const onEngine = ["--engine", "portable"];
    assert.equal(run("embed", file, photos, "--out", join(dir, "c.csv"), ...onEngine).images, 70);
    assert.equal((run("neighbors", file, photos, "--out", join(dir, "c.html"), ...onEngine).rows as []).length, 6);
    assert.equal(
      run("correspond", file, photo, photo, "--side", "64", "--out", join(dir, "c.png"), ...onEngine).mutual,
      64,
    );
    assert.equal(
      (run("features", file, photo, photo, "--side", "64", "--out", join(dir, "c.png"), ...onEngine).images as [])
        .length,
      2,
    );
    assert.equal(run("export", file, "--format", "pth", "--out", join(dir, "c.pth")).keys, "torchvision");
  });

  it("mutual matches of a map and the same map shuffled undo the shuffle", async () => {
    const r = random(4, "maps");
    const [d, places] = [6, 12];
    const a = tensor(
      "float32",
      [1, d, 3, 4],
      Array.from({ length: d * places }, () => r.normal()),
    );
    const order = r.permutation(places);
    const b = tensor(
      "float32",
      [1, d, 4, 3],
      Array.from({ length: d * places }, (_, i) =>
        Number(a.data[Math.floor(i / places) * places + order[i % places]!]),
      ),
    );
    const matches = await mutualMatches(engine, a, b);
    assert.equal(matches.length, places);
    for (const { from, to, similarity } of matches) {
      assert.equal(order[to], from);
      assert.ok(Math.abs(similarity - 1) < 1e-5);
    }
  });
  it("spreads the drawn matches out", () => {
    const at = (from: number) => ({ from, to: 0, similarity: 1 });
    assert.deepEqual(
      spreadOut([at(0), at(1), at(2), at(8)], 4, 9, 2).map((m) => m.from),
      [0, 2, 8],
    );
    assert.equal(spreadOut([at(0), at(2), at(8)], 4, 2, 2).length, 2);
  });
  it("features draws what each head of a ViT attends to", async () => {
    const vit = { embedDim: 16, depth: 2, numHeads: 2, patchSize: 4 };
    const info = tinyInfo("vitTiny", vit, { method: "aps" });
    const weights = initialWeights(info, 0);
    const even = { ...weights, "transformer.1.attn.qkv.weight": zeros("float32", [48, 16]) };
    const attended = async (tensors: Tensors) => {
      const session = await engine.session(attentionModel(info, tensors));
      const r = random(5, "image");
      const image = tensor(
        "float32",
        [1, 3, 16, 16],
        Array.from({ length: 768 }, () => r.uniform()),
      );
      const { attention: a } = await session.run({ image });
      session.release();
      assert.deepEqual(a!.shape, [1, 2, 4, 4]);
      return [...(a!.data as Float32Array)];
    };
    // queries and keys of 0 look everywhere alike: at 16 patches and the class token
    for (const share of await attended(even)) assert.ok(Math.abs(share - 1 / 17) < 1e-6);
    const shares = await attended(weights);
    assert.ok(new Set(shares).size > 16 && shares.every((v) => v > 0));

    writeFileSync(join(dir, "vit.onnx"), encoderModel(info, weights));
    const [photo, out] = [join(photos, "000.png"), join(dir, "a.png")];
    const [shown] = await attention(engine, await encoderAt(join(dir, "vit.onnx"), {}), [photo], { side: 64, out });
    assert.deepEqual(shown!.map, [2, 4, 4]);
    assert.equal((await sharp(out).metadata()).format, "png");
    await assert.rejects(
      attention(engine, encoder, [photo], { side: 64, out }),
      /resnet18 has no class token .*; vitTiny, vitSmall, vitBase, mocoVitSmall, mocoVitBase have\./,
    );
    const x = input("x", "float32", ["B", 3, 16, 16]);
    writeFileSync(join(dir, "foreign.onnx"), toModel({ inputs: [x], outputs: { y: Relu(x) } }));
    const foreign = await encoderAt(join(dir, "foreign.onnx"), {});
    await assert.rejects(attention(engine, foreign, [photo], { side: 64, out }), /of this one there is only a graph/);
  });
  it("correspond and features draw a photograph and itself", async () => {
    const photo = join(photos, "000.png");
    const { mutual, drawn } = await correspond(engine, encoder, [photo, photo], {
      side: 64,
      count: 9,
      out: join(dir, "m.png"),
    });
    assert.equal(mutual, 64); // every place of 8 × 8
    assert.ok(drawn.length > 0 && drawn.every((m) => m.from === m.to));
    const out = join(dir, "f.png");
    const [one, two] = await features(engine, encoder, [photo, photo], { side: 64, out });
    assert.deepEqual(
      [one!.map, two!.map],
      [
        [64, 8, 8],
        [64, 8, 8],
      ],
    );
    for (const file of [out, join(dir, "m.png")]) assert.equal((await sharp(file).metadata()).format, "png");
    await assert.rejects(
      features(engine, encoder, [join(dir, "encoder.onnx")], { side: 64, out }),
      /encoder\.onnx cannot be read as a picture: /,
    );
  });
});
