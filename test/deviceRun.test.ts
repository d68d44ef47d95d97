import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pretrain } from "../cli/run.js";
import { openEngine, type EngineOptions } from "../src/engines/native/index.js";
import { trainingEngine } from "./engine.js";
import { smallSample } from "./failedStep.js";

describe("a run whose tensors live on a device", () => {
  it("is bit for bit the one in the host's memory: views, steps, neighbours, encoder", async () => {
    const dir = mkdtempSync(join(tmpdir(), "device-"));
    const { library } = await trainingEngine();
    /** What a run leaves, without its times. */
    async function run(memory: EngineOptions["memory"]) {
      const out = join(dir, memory!);
      const { loss, knn } = await pretrain({
        recipe: smallSample(["epochs=1", "evaluate.everyEpochs=1"]),
        recipeName: "sample",
        out,
        engine: openEngine({ library, name: "training", threads: 1, memory }),
        resume: false,
        listener: { say: () => undefined },
        stopping: () => false,
      });
      const rows = readFileSync(join(out, "metrics.jsonl"), "utf8").trim().split("\n");
      const metrics = rows.map((row) => JSON.parse(row) as Record<string, unknown>).filter((row) => "step" in row);
      for (const row of metrics) for (const time of ["stepMs", "waitMs"]) delete row[time];
      return { loss, knn, metrics, encoder: readFileSync(join(out, "encoder.onnx")) };
    }
    const [host, device] = [await run("host"), await run("device")];
    assert.equal(host.metrics.length, 4);
    assert.deepEqual(device, host);
    rmSync(dir, { recursive: true });
  });
});
