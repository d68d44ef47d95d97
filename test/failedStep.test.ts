import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { trainingEngine } from "./engine.js";
import { failedRun, failingAt } from "./failedStep.js";

describe("a run whose step fails", () => {
  let out: string;
  beforeEach(() => (out = mkdtempSync(join(tmpdir(), "failed-"))));
  afterEach(() => rmSync(out, { recursive: true }));

  it("leaves a checkpoint of the step before, says so, and ends with the error", async () => {
    const { error, said, step } = await failedRun(failingAt(await trainingEngine(), 3), join(out, "run"));
    assert.equal(error, "The memory of the device is not enough.");
    assert.equal(step, 2);
    assert.match(said.at(-1)!, /^A checkpoint at step 2 is kept; go on with: diptych pretrain --resume --out /);
  });
  it("leaves one where its first step fails", async () => {
    const { step } = await failedRun(failingAt(await trainingEngine(), 1), join(out, "run"));
    assert.equal(step, 0);
  });
});
