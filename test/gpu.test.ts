import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Check } from "../bench/gpu/check.js";
import { checkResume } from "../bench/gpu/recovery.js";
import { checkRules } from "../bench/gpu/rules.js";
import type { Speed } from "../bench/gpu/speed.js";
import { checkSteps, stepCases } from "../bench/gpu/steps.js";
import { readDriver } from "../src/engines/native/cuda.js";
import type { NativeEngine } from "../src/engines/native/index.js";
import type { Tensors } from "../src/tensor.js";
import { trainingEngine } from "./engine.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const gpu = (...args: string[]) =>
  spawnSync(process.execPath, [join(root, "dist/bench/gpu/index.js"), ...args], { encoding: "utf8", cwd: root });

describe("npm run gpu", () => {
  it("runs all of itself on the CPU, and writes what it found", () => {
    const dir = mkdtempSync(join(tmpdir(), "gpu-"));
    const { status, stderr } = gpu("--device", "cpu", "--out", join(dir, "gpu.json"));
    assert.equal(status, 0, stderr);
    const { passed, checks, speeds } = JSON.parse(readFileSync(join(dir, "gpu.json"), "utf8")) as {
      passed: boolean;
      checks: Check[];
      speeds: Speed[];
    };
    rmSync(dir, { recursive: true });
    assert.equal(passed, true);
    for (const kind of [
      /^op rules$/,
      /^mocov2, .*fp32, training/,
      /^aps, .*fp16/,
      /portable/,
      /captured/,
      /^resume$/,
      /^out of memory$/,
    ])
      assert.ok(
        checks.some((c) => kind.test(c.check) && c.compared > 0),
        String(kind),
      );
    for (const precision of ["fp32", "fp16"]) {
      const [block] = speeds[0]!.blocks[`diptych ${precision}`]!;
      assert.ok(typeof block === "object" && block.img_s > 0, JSON.stringify(speeds[0]));
    }
  });
  it("says in a sentence that there is no card", function () {
    if (readDriver()) {
      this.test!.title += " (this machine has an NVIDIA driver)";
      this.skip();
    }
    const { status, stderr } = gpu();
    assert.equal(status, 1);
    assert.equal(stderr, "There is no NVIDIA driver on this machine. Install driver 580 or newer.\n");
  });
});

describe("the checks of npm run gpu", () => {
  /** Every result a hundredth off. */
  const spoiled = (tensors: Tensors): Tensors => {
    for (const t of Object.values(tensors))
      if (t.dtype === "float32") t.data.forEach((v, i) => (t.data[i] = Number(v) * 1.01 + 0.01));
    return tensors;
  };
  const wrong = async (): Promise<NativeEngine> => {
    const engine = await trainingEngine();
    return {
      ...engine,
      async session(...given) {
        const session = await engine.session(...given);
        return { ...session, run: async (...fed) => spoiled(await session.run(...fed)) };
      },
      async trainingSession(...given) {
        const session = await engine.trainingSession(...given);
        const metrics = () =>
          Object.fromEntries(Object.entries(session.metrics()).map(([name, v]) => [name, 1.01 * v]));
        return { ...session, metrics };
      },
    };
  };

  it("find a device whose kernels are off", async () => {
    const { compared, failed } = await checkRules(await wrong(), await trainingEngine(), 60);
    assert.ok(compared > 10);
    assert.ok(failed.length >= compared - 2, `${failed.length} of ${compared}`); // zeros may stay within what is allowed
  });
  it("find a device whose steps are off", async () => {
    const engine = await wrong();
    const cases = stepCases(["fp32"], ["mocov2"]).filter((c) => c.engine === "training" && c.network === "vit");
    const [check] = await checkSteps(
      { training: engine, portable: engine, captured: engine },
      await trainingEngine(),
      cases,
      1,
    );
    assert.match(check!.failed.join(), /step 0: loss is off by/);
  });
  it("find a session that does not take up what it is given", async () => {
    const engine = await trainingEngine();
    let opened = 0;
    const deaf: NativeEngine = {
      ...engine,
      async trainingSession(...given) {
        const session = await engine.trainingSession(...given);
        return opened++ ? { ...session, load: () => undefined } : session;
      },
    };
    assert.ok((await checkResume(deaf)).failed.length > 0);
  });
});
