import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Check } from "../bench/gpu/check.js";
import { measureConvolutions } from "../bench/gpu/convolutions.js";
import { checkKnn, judged } from "../bench/gpu/knn.js";
import { checkResume } from "../bench/gpu/recovery.js";
import { nsysShares, traceShares } from "../bench/gpu/profile.js";
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
    const [{ blocks, profile, waits }] = speeds as [Speed];
    for (const who of ["fp32, training artifacts", "fp32, step graph"]) {
      const [block] = blocks[`diptych ${who}`]!;
      assert.ok(typeof block === "object" && block.img_s > 0, JSON.stringify(blocks));
    }
    assert.ok(typeof profile === "object" && profile.of === "nodes" && profile.ms > 0, JSON.stringify(profile));
    assert.ok(profile.shares.some((s) => s.name === "ConvGrad"));
    assert.ok(Math.abs(profile.shares.reduce((sum, s) => sum + s.share, 0) - 1) < 1e-9);
    for (const w of Object.values(waits))
      assert.ok(typeof w === "object" && w.img_s > 0 && w.wait_share >= 0 && w.wait_share < 1, JSON.stringify(waits));
    assert.match(stderr, /diptych fp32, step graph +\d+\.\d img\/s/);
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

describe("the profiles of npm run gpu", () => {
  it("are of kernels where the trace has them, by the op that launched them", () => {
    const event = (cat: string, name: string, dur: number, op?: string) => ({ cat, name, dur, args: { op_name: op } });
    const trace = [
      event("Session", "model_run", 900),
      event("Node", "a/Conv_kernel_time", 10, "Conv"),
      event("Kernel", "implicit_gemm", 3000, "Conv"),
      event("Kernel", "reduce", 500, "Conv"),
      event("Kernel", "elementwise", 500),
    ];
    assert.deepEqual(traceShares(JSON.stringify(trace)), {
      of: "kernels",
      ms: 4,
      shares: [
        { name: "Conv", calls: 2, ms: 3.5, share: 0.875 },
        { name: "elementwise", calls: 1, ms: 0.5, share: 0.125 },
      ],
    });
  });
  it("are read out of nsys' table, whose kernels have commas in their names", () => {
    const csv = [
      "Processing [steps.sqlite] with [cuda_gpu_kern_sum.py]...",
      "Time (%),Total Time (ns),Instances,Avg (ns),Name",
      '75.0,3000000,6,500000,"void gemm<float, 4>(int, int)"',
      "25.0,1000000,2,500000,relu",
    ].join("\n");
    const { of, ms, shares } = nsysShares(csv);
    assert.deepEqual([of, ms], ["kernels", 4]);
    assert.deepEqual(shares[0], { name: "void gemm<float, 4>(int, int)", calls: 6, ms: 3, share: 0.75 });
    assert.equal(shares[1]!.name, "relu");
  });
  it("hold the largest twenty, and all others as one", () => {
    const trace = Array.from({ length: 30 }, (_, i) => ({ cat: "Kernel", name: `k${i}`, dur: 1000 * (i + 1) }));
    const { shares } = traceShares(JSON.stringify(trace));
    assert.equal(shares.length, 21);
    assert.equal(shares[0]!.name, "k29");
    assert.deepEqual([shares[20]!.name, shares[20]!.calls, shares[20]!.ms], ["others", 10, 55]);
  });
});

describe("the forms of a convolution in npm run gpu", () => {
  it("that have kernels here give one result, forward and back; the others say why they are left out", async () => {
    const layers = [
      [8, 4, 5, 1],
      [4, 6, 5, 3],
    ] as const;
    const { check, times } = await measureConvolutions(await trainingEngine(), layers, 3, 1);
    assert.deepEqual(check.failed, []);
    const measured = times.filter((t) => typeof t.ms === "number");
    assert.equal(check.compared, measured.filter((t) => t.form !== "operands").length);
    assert.equal(check.compared, 11 + 6); // of 1×1, and of 3×3
    const leftOut = times.filter((t) => typeof t.ms === "string");
    assert.ok(leftOut.every((t) => t.form.startsWith("NhwcConv") && t.ms === "left out: its kernel is a card's"));
    assert.equal(leftOut.length, 2 * 4);
  });
});

describe("kNN of 16 bits in npm run gpu", () => {
  it("is that of whole runs in both precisions from the same seed", async () => {
    const settings = ["data.limit=48", "data.size=32", "batchSize=16", "epochs=1", "backbone.width=8"];
    const engine = await trainingEngine();
    const precisions = ["fp32", "fp16"] as const;
    const [found, ...others] = await checkKnn(engine, { precisions, seeds: [3], settings, networks: ["resnet"] });
    assert.deepEqual(others, []);
    assert.deepEqual([found!.check, found!.compared], ["kNN of resnet, fp16", 1]);
    assert.deepEqual(
      found!.pairs.map((p) => p.seed),
      [3],
    );
    for (const { fp32, narrow } of found!.pairs)
      for (const score of [fp32, narrow]) assert.ok(score > 0 && score <= 100);
  });
  it("fails where the mean is more than a point off, not where one seed is", () => {
    const pairs = (...narrow: number[]) => narrow.map((v, seed) => ({ seed, fp32: 60, narrow: v }));
    const fine = judged("kNN", pairs(58, 61.5, 60.5));
    assert.deepEqual([fine.difference, fine.failed], [0, []]);
    assert.ok(Math.abs(fine.se - Math.sqrt((4 + 2.25 + 0.25) / 6)) < 1e-12);
    const poor = judged("kNN", pairs(58, 59.5, 58.5));
    assert.deepEqual(poor.failed, ["The mean over 3 seeds is -1.33 points from fp32's, where 1 is allowed."]);
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
