import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { packageStep, readArtifacts, writeArtifacts } from "../../src/artifacts/index.js";
import { readCheckpoint, writeCheckpoint } from "../../src/artifacts/odtc.js";
import { readSafetensors, writeSafetensors } from "../../src/artifacts/safetensors.js";
import { checkFits, checkpointSteps, newestCheckpoint, saveCheckpoint } from "../../src/checkpoints.js";
import { openApi } from "../../src/engines/native/api.js";
import { initialTensors } from "../../src/step.js";
import { scalar, tensor, zeros, type Tensors } from "../../src/tensor.js";
import { trainingEngine } from "../engine.js";
import { tinyStep } from "../tinyRun.js";

const mixed: Tensors = {
  "layer1.0.conv1.weight": tensor("float32", [2, 1, 3], [1, -2, 3.5, 0, NaN, Infinity]),
  count: scalar(7, "int64"),
  mask: tensor("bool", [3], [1, 0, 1]),
  bytes: tensor("uint8", [2, 2], [0, 255, 7, 8]),
  double: tensor("float64", [1], [Math.PI]),
  empty: zeros("float32", [0, 4]),
};

describe("ODTC checkpoints", () => {
  it("come back as they were written", () => {
    const back = readCheckpoint(writeCheckpoint({ trainable: mixed, frozen: { fixed: scalar(2) } }));
    assert.deepEqual(back, { trainable: mixed, frozen: { fixed: scalar(2) } });
  });
  it("pass through the runtime's own SaveCheckpoint unchanged", async () => {
    const engine = await trainingEngine();
    const api = openApi(engine.library);
    const trainable = { w: tensor("float32", [2, 3], [1, 2, 3, 4, 5, 6]), b: tensor("float32", [3], [0.1, 0.2, 0.3]) };
    const bytes = writeCheckpoint({ trainable, frozen: { f: scalar(9) } });
    const state = api.make(api.training!.LoadCheckpointFromBuffer, bytes, bytes.byteLength);
    const dir = await mkdtemp(join(tmpdir(), "odtc-"));
    api.check(api.training!.SaveCheckpoint(state, join(dir, "saved"), false));
    api.training!.ReleaseCheckpointState(state);
    const { readFile } = await import("node:fs/promises");
    const back = readCheckpoint(await readFile(join(dir, "saved")));
    assert.deepEqual({ ...back.trainable }, { b: trainable.b, w: trainable.w });
    assert.deepEqual(back.frozen, { f: scalar(9) });
    await rm(dir, { recursive: true });
  });
  it("that are cut short or of another kind are refused in a sentence", () => {
    const bytes = writeCheckpoint({ trainable: mixed, frozen: {} });
    assert.throws(() => readCheckpoint(bytes.subarray(0, bytes.length - 40)), /Not a whole checkpoint/);
    assert.throws(
      () => readCheckpoint(new TextEncoder().encode("hello, this is not a checkpoint")),
      /its identifier is not ODTC/,
    );
    assert.throws(() => readCheckpoint(new Uint8Array()), /Not a whole checkpoint \(0 bytes\)/);
  });
});

describe("safetensors", () => {
  it("come back as they were written, whatever the shapes and values", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string({ minLength: 1 }), fc.array(fc.float(), { maxLength: 6 })), (values) => {
        const tensors = Object.fromEntries(
          Object.entries(values)
            .filter(([k]) => k !== "__metadata__" && k !== "__proto__")
            .map(([k, v]) => [k, tensor("float32", [v.length], v)]),
        );
        assert.deepEqual(readSafetensors(writeSafetensors(tensors)).tensors, tensors);
      }),
      { numRuns: 100 },
    );
    assert.deepEqual(readSafetensors(writeSafetensors(mixed, { format: "pt" })), {
      tensors: mixed,
      metadata: { format: "pt" },
    });
  });
  it("follow the format: length, JSON, then data at the named offsets", () => {
    const bytes = writeSafetensors({ a: tensor("float32", [2], [1, 2]), b: tensor("uint8", [1], [9]) });
    const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    assert.deepEqual(JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))), {
      a: { dtype: "F32", shape: [2], data_offsets: [0, 8] },
      b: { dtype: "U8", shape: [1], data_offsets: [8, 9] },
    });
    assert.equal(bytes.length, 8 + length + 9);
    assert.equal(bytes.at(-1), 9);
  });
  it("of bfloat16 become float32", () => {
    const header = new TextEncoder().encode('{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}');
    const bytes = new Uint8Array(8 + header.length + 4);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
    bytes.set(header, 8);
    bytes.set([0x80, 0x3f, 0x20, 0xc0], 8 + header.length);
    assert.deepEqual([...readSafetensors(bytes).tensors.x!.data], [1, -2.5]);
  });
  it("that are cut short are refused in a sentence", () => {
    const bytes = writeSafetensors(mixed);
    assert.throws(
      () => readSafetensors(bytes.subarray(0, bytes.length - 3)),
      /Not a whole safetensors file: ".*" ends at byte/,
    );
    assert.throws(() => readSafetensors(bytes.subarray(0, 20)), /cannot hold its header/);
  });
});

describe("artifacts on disk", () => {
  it("load as they were written", async () => {
    const dir = await mkdtemp(join(tmpdir(), "artifacts-"));
    const step = tinyStep("mocov2", "training");
    const artifacts = packageStep(step, initialTensors(step, 0), ["training"]);
    await writeArtifacts(dir, artifacts);
    const back = await readArtifacts(dir);
    assert.deepEqual(back.manifest, artifacts.manifest);
    assert.deepEqual(back.initial, artifacts.initial);
    const session = await (await trainingEngine()).trainingSession(back);
    session.release();
    await rm(dir, { recursive: true });
  });
});

describe("checkpoints of a run", () => {
  const step = tinyStep("mocov2", "training");
  const { manifest, initial } = packageStep(step, initialTensors(step, 0), []);
  const tensors = { ...initial, step: scalar(5, "int64") };
  const progress = (n: number) => ({ step: n, epoch: 0, batch: n, inner: 0, broken: [3], threads: 2 });
  let dir: string;
  beforeEach(async () => (dir = await mkdtemp(join(tmpdir(), "checkpoints-"))));
  afterEach(() => rm(dir, { recursive: true }));

  it("keep the newest and remove the rest", async () => {
    for (const n of [10, 20, 30]) await saveCheckpoint(dir, manifest, tensors, progress(n), 2);
    assert.deepEqual(await checkpointSteps(dir), [20, 30]);
    const newest = await newestCheckpoint(dir, assert.fail);
    assert.deepEqual(newest, { tensors, progress: progress(30) });
  });
  it("clear away what a killed process left half-written", async () => {
    await mkdir(join(dir, ".writing-7-1"));
    await saveCheckpoint(dir, manifest, tensors, progress(10), 2);
    assert.deepEqual(await readdir(dir), ["step-10"]);
  });
  it("fall back to an older one where the newest is cut short, and name the file", async () => {
    await saveCheckpoint(dir, manifest, tensors, progress(10), 2);
    await saveCheckpoint(dir, manifest, tensors, progress(20), 2);
    await truncate(join(dir, "step-20", "checkpoint"), 100);
    const said: string[] = [];
    assert.equal((await newestCheckpoint(dir, (s) => said.push(s)))!.progress.step, 10);
    assert.match(said[0]!, /step-20\/checkpoint cannot be used: Not a whole checkpoint/);
  });
  it("of another method are refused in a sentence", () => {
    const other = packageStep(tinyStep("byol", "training"), {}, []).manifest;
    assert.throws(
      () => checkFits(other, tensors, "The checkpoint at step 5 of runs/a"),
      /^Error: The checkpoint at step 5 of runs\/a is of another method or network: it lacks \d+ tensors \("student\.projector\.1\.weight" …\), it has \d+ that are not in the step \(".*" …\)\. Continue it with its own recipe, or start from its weights with --init\.$/,
    );
    checkFits(manifest, tensors, "its own");
  });
  it("leave the older ones alone where a new one cannot be written", async () => {
    await saveCheckpoint(dir, manifest, tensors, progress(10), 2);
    await writeFile(join(dir, `.writing-20-${process.pid}`), "a file where a folder should be");
    await assert.rejects(
      saveCheckpoint(dir, manifest, tensors, progress(20), 2),
      /could not be written: .*Earlier checkpoints are untouched\./,
    );
    assert.deepEqual(await checkpointSteps(dir), [10]);
  });
});
