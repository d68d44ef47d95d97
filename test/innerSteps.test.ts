/** APS takes four steps on one batch: a run that stops between them goes on with the same patches of the same batch. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readCheckpoint } from "../src/artifacts/odtc.js";
import { readSafetensors } from "../src/artifacts/safetensors.js";
import { trainingEngine } from "./engine.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const pretrain = (...args: string[]): string => {
  const command = [join(root, "bin", "diptych.cjs"), "pretrain", ...args, "--threads", "1"];
  const { status, stderr } = spawnSync(process.execPath, command, { encoding: "utf8", cwd: root });
  assert.equal(status, 0, stderr);
  return stderr;
};
const at = (run: string, step: number, file: string) => join(run, "checkpoints", `step-${step}`, file);
const progress = (run: string, step: number) =>
  JSON.parse(readFileSync(at(run, step, "progress.json"), "utf8")) as Record<string, unknown>;

describe("several steps on one batch", function () {
  this.timeout(120_000);
  const steps = 16; // 2 epochs of 2 batches of 4 steps
  let dir: string;
  let whole: string;
  before(async () => {
    await trainingEngine();
    dir = mkdtempSync(join(tmpdir(), "diptych-inner-"));
    whole = join(dir, "whole");
    const settings = [
      "data.name=imageFolder",
      "method.grid=4",
      "method.hiddenDim=16",
      "method.outDim=8",
      "backbone.embedDim=16",
      "backbone.numHeads=2",
      "backbone.depth=1",
      "checkpoint.everySteps=1",
      `checkpoint.keep=${steps}`,
      "evaluate.everyEpochs=9",
    ].flatMap((s) => ["--set", s]);
    const size = ["--size", "16", "--batch-size", "8", "--limit", "16", "--epochs", "2"];
    pretrain("aps-vit4-cifar10-small", "--data", "samples", "--out", whole, ...size, ...settings);
  });
  after(() => rmSync(dir, { recursive: true }));

  it("counts batches and the steps on them", () => {
    const where = (step: number) => {
      const { epoch, batch, inner } = progress(whole, step);
      return { epoch, batch, inner };
    };
    assert.deepEqual(where(7), { epoch: 0, batch: 1, inner: 3 });
    assert.deepEqual(where(8), { epoch: 1, batch: 0, inner: 0 });
  });

  for (const stopped of [5, 6, 7])
    it(`continues bit for bit at step ${stopped % 4} of a batch`, () => {
      const run = join(dir, `stopped-${stopped}`);
      cpSync(whole, run, { recursive: true });
      for (const later of readdirSync(join(run, "checkpoints")))
        if (Number(later.slice("step-".length)) > stopped) rmSync(join(run, "checkpoints", later), { recursive: true });
      assert.match(pretrain("--resume", "--out", run), new RegExp(`Resuming at step ${stopped}\\.`));
      for (const [file, read] of [
        ["checkpoint", readCheckpoint],
        ["state.safetensors", readSafetensors],
      ] as const)
        assert.deepEqual(read(readFileSync(at(run, steps, file))), read(readFileSync(at(whole, steps, file))));
    });
});
