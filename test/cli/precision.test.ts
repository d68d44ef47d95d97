import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readInitializers } from "../../src/onnx/model.js";

const bin = fileURLToPath(new URL("../../../bin/diptych.cjs", import.meta.url));

describe("pretrain --precision", () => {
  let out: string;
  beforeEach(() => (out = mkdtempSync(join(tmpdir(), "precision-"))));
  afterEach(() => rmSync(out, { recursive: true }));
  const pretrain = (precision: string, ...more: string[]) => {
    const small = ["--limit", "32", "--batch-size", "16", "--size", "32", "--epochs", "1", "--threads", "1"];
    const args = [
      bin,
      "pretrain",
      "sample",
      "--device",
      "cpu",
      "--precision",
      precision,
      "--out",
      join(out, "run"),
      ...small,
      ...more,
    ];
    return spawnSync(process.execPath, args, {
      encoding: "utf8",
      env: { ...process.env, NO_COLOR: "1", COLUMNS: "500" },
    });
  };

  it("fp16 trains on the CPU, says what that is, logs the loss scale and writes a float32 encoder", () => {
    const { status, stderr } = pretrain("fp16", "--set", "lossScale.start=1024");
    assert.equal(status, 0, stderr);
    assert.match(stderr, /On the CPU, float16 is computed in float32 with casts between/);
    const read = (file: string) => readFileSync(join(out, "run", file));
    const steps = read("metrics.jsonl")
      .toString()
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { step?: number; lossScale?: number })
      .filter((row) => row.step);
    assert.deepEqual(
      steps.map((s) => s.lossScale),
      [1024, 1024],
    );
    assert.equal((JSON.parse(read("recipe.json").toString()) as { precision: string }).precision, "fp16");
    const dtypes = new Set(Object.values(readInitializers(read("encoder.onnx"))).map((t) => t.dtype));
    assert.ok(!dtypes.has("float16"), [...dtypes].join());
  });
  it("bf16 ends on the CPU in a sentence", () => {
    const { status, stderr } = pretrain("bf16");
    assert.notEqual(status, 0);
    assert.match(
      stderr.replace(/\s+/g, " "),
      /The CPU has no kernels for bfloat16\. Take --precision fp32, or --device cuda\./,
    );
  });
});
