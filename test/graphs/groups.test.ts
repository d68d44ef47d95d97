import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { methods, type MethodName } from "../../graphs/methods/index.js";
import { optimizers } from "../../graphs/optimizers.js";
import type { Layout } from "../../graphs/scope.js";
import type { Updating } from "../../graphs/step.js";
import { packageStep } from "../../src/artifacts/index.js";
import { checkFits, loadCheckpoint, saveCheckpoint } from "../../src/checkpoints.js";
import type { EngineName, TrainingSession } from "../../src/engines/index.js";
import { nodesOf } from "../../src/onnx/graph.js";
import { random } from "../../src/random.js";
import { initialTensors, type TrainingStep } from "../../src/step.js";
import { tensor, type Tensors } from "../../src/tensor.js";
import { portableEngine, trainingEngine } from "../engine.js";
import { gradedStep } from "../gradedStep.js";
import { tinyBatches, tinyInputs, tinyScalars, tinyStep } from "../tinyRun.js";

const engines = ["training", "portable"] as const satisfies EngineName[];

async function opened(step: TrainingStep, engine: EngineName, given: Tensors = {}): Promise<TrainingSession> {
  const on = engine === "training" ? await trainingEngine() : portableEngine();
  return on.trainingSession(packageStep(step, initialTensors(step, 3, given), [engine]));
}

/** Same names and shapes, and numbers within 1e-6 of the largest of their tensor (or of 1). */
function assertClose(actual: Tensors, expected: Tensors, when: string): void {
  assert.deepEqual(Object.keys(actual).sort(), Object.keys(expected).sort());
  for (const [name, t] of Object.entries(expected)) {
    assert.deepEqual(actual[name]!.shape, t.shape, name);
    const [a, b] = [actual[name]!, t].map(({ data }) => [...data].map(Number)) as [number[], number[]];
    const largest = Math.max(1, ...b.map(Math.abs));
    const off = Math.max(0, ...b.map((v, i) => Math.abs(a[i]! - v))) / largest;
    assert.ok(off <= 1e-6, `${when}: ${name} is off by ${off}`);
  }
}

/** Steps of both layouts from the same start, compared after each; which were applied. */
async function assertAlike(
  build: (layout: Layout) => TrainingStep,
  engine: EngineName,
  inputs: readonly Tensors[],
  given?: Tensors,
): Promise<boolean[]> {
  const [apart, joined] = [await opened(build("apart"), engine, given), await opened(build("stacked"), engine, given)];
  const applied: boolean[] = [];
  for (const [t, fed] of inputs.entries()) {
    const [here, there] = [await apart.step(fed, tinyScalars), await joined.step(fed, tinyScalars)];
    assert.deepEqual(there, here);
    if (here.applied !== undefined) applied.push(here.applied);
    assertClose(joined.tensors(), apart.tensors(), `step ${t}`);
  }
  apart.release();
  joined.release();
  return applied;
}

/** Rows of 256, 64 and 1; a convolution of 1×1, vectors, a scalar. */
const shapes = {
  "a.weight": [32, 24],
  "a.bias": [32],
  "b.weight": [16, 32, 1, 1],
  "b.scale": [256],
  "c.weight": [5, 7],
  "c.bias": [5],
  "c.temperature": [],
  "d.weight": [64, 3, 3],
};
const gradients = (t: number): Tensors =>
  Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => {
      const r = random(t, name);
      const length = shape.reduce((a, b) => a * b, 1);
      return [
        `grad_${name}`,
        tensor(
          "float32",
          shape,
          Array.from({ length }, () => r.normal()),
        ),
      ];
    }),
  );
const first = Object.fromEntries(Object.entries(gradients(100)).map(([name, t]) => [name.slice("grad_".length), t]));
const updated = (name: keyof typeof optimizers, options: object, more: Partial<Updating> = {}): Updating => ({
  optimizer: optimizers[name] as never,
  optimizerOptions: { ...optimizers[name].defaults, ...options },
  ...more,
});
const layerwise = (rest: object): Pick<Updating, "own"> => ({
  own: (name) => ({ rate: name.startsWith("a") ? 0.25 : 0.5, options: rest }),
});

const cases: Record<string, Updating> = {
  "sgd, decay on matrices": updated("sgd", { weightDecay: 0.1, nesterov: true, exclude: "vectors" }),
  "sgd without momentum": updated("sgd", { momentum: 0, weightDecay: 0.1 }),
  "adamw, decay on matrices": updated("adamw", {}),
  "adam, decay on all": updated("adam", { weightDecay: 0.1, exclude: "none" }),
  lars: updated("lars", { weightDecay: 0.1 }),
  "lars, separate norms and a clipped rate": updated("lars", { separateNorms: true, clipRate: true, exclude: "none" }),
  "sgd, clipped in both norms and by value": updated(
    "sgd",
    {},
    { clipNorm: 2, clipInfinityNorm: 1.5, clipValue: 0.02 },
  ),
  "adamw at a rate of each layer's own": updated("adamw", {}, layerwise(optimizers.adamw.defaults)),
  "lars at a rate of each layer's own": updated("lars", {}, layerwise({ ...optimizers.lars.defaults, clipRate: true })),
};

describe("parameters joined in groups, as for a card", () => {
  for (const engine of engines) {
    for (const [name, updating] of Object.entries(cases))
      it(`are updated as each by itself: ${name}, ${engine}`, async () => {
        const build = (layout: Layout) => gradedStep(shapes, updating, { dialect: engine, layout });
        const applied = await assertAlike(build, engine, [0, 1, 2].map(gradients), first);
        assert.deepEqual(applied, [true, true, true]);
      });

    it(`accumulate batches alike, ${engine}`, async () => {
      const build = (layout: Layout) =>
        tinyStep("mocov2", engine, "geluResnet", "adamw", {
          layout,
          accumulate: 2,
          batch: 8,
          methodOptions: { bnGroups: 1 },
        });
      const inputs = [0, 1].flatMap((t) => tinyBatches({ views: tinyInputs("mocov2", t).views! }, 2));
      assert.deepEqual(await assertAlike(build, engine, inputs), [true, true]);
    });

    it(`refuse a step alike where a gradient is not finite, and halve the loss scale, ${engine}`, async () => {
      const build = (layout: Layout) =>
        tinyStep("simclr", engine, "geluResnet", "sgd", { layout, precision: "fp16", lossScale: { start: 1024 } });
      const spoiled = tinyInputs("simclr", 1);
      spoiled.views!.data[5] = Infinity;
      const inputs = [tinyInputs("simclr", 0), spoiled, tinyInputs("simclr", 2)];
      assert.deepEqual(await assertAlike(build, engine, inputs), [true, false, true]);
    });

    it(`take up a run that another layout began, ${engine}`, async () => {
      const build = (layout: Layout) => tinyStep("mocov3", engine, "geluResnet", "lars", { layout });
      const [whole, rest] = [await opened(build("apart"), engine), await opened(build("stacked"), engine)];
      for (let t = 0; t < 4; t++) {
        if (t === 2) rest.load(whole.tensors());
        for (const s of t < 2 ? [whole] : [whole, rest]) await s.step(tinyInputs("mocov3", t), tinyScalars);
      }
      assertClose(rest.tensors(), whole.tensors(), "step 4");
      whole.release();
      rest.release();
    });
  }

  it("leave the files of a checkpoint as they are, byte by byte: from one layout to the other and back", async () => {
    const build = (layout: Layout) => tinyStep("byol", "training", "mocoVit", "adamw", { layout });
    const dir = mkdtempSync(join(tmpdir(), "groups-"));
    const saved: Buffer[] = [];
    for (const [i, layout] of (["apart", "stacked", "apart"] as const).entries()) {
      const step = build(layout);
      const session = await opened(step, "training");
      const { manifest } = packageStep(step, {}, []);
      if (i === 0) await session.step(tinyInputs("byol", 0), tinyScalars);
      else {
        const { tensors } = await loadCheckpoint(dir, i);
        checkFits(manifest, tensors, "the checkpoint");
        session.load(tensors);
      }
      const progress = { step: i + 1, epoch: 0, batch: 0, inner: 0, broken: [], threads: 1 };
      await saveCheckpoint(dir, manifest, session.tensors(), progress, 3);
      const files = ["checkpoint", "state.safetensors"].map((file) => readFileSync(join(dir, `step-${i + 1}`, file)));
      saved.push(Buffer.concat(files));
      if (i === 0) assert.ok(Object.keys(session.tensors()).filter((name) => name.endsWith(".exp_avg")).length > 10);
      session.release();
    }
    rmSync(dir, { recursive: true });
    for (const bytes of saved.slice(1)) assert.ok(bytes.equals(saved[0]!));
  });

  for (const method of Object.keys(methods) as MethodName[])
    it(`start from the same tensors under the same names, teachers as well: ${method}`, () => {
      const which = method === "aps" ? "vit" : "resnet";
      const start = (layout: Layout) => initialTensors(tinyStep(method, "training", which, "adamw", { layout }), 3);
      assert.deepEqual(start("stacked"), start("apart"));
    });

  it("are those of equal options, in the longest rows that each fills, up to 256", () => {
    const step = gradedStep(shapes, cases["adamw, decay on matrices"]!, { dialect: "training", layout: "stacked" });
    const joined = step.state.filter((s) => s.name.endsWith("exp_avg"));
    assert.deepEqual(
      joined.map((s) => [s.input.shape, s.parts!.map((p) => p.name.split(".").slice(1, 3).join("."))]),
      [
        [
          [5, 256],
          ["a.weight", "b.weight"],
        ],
        [[1, 32], ["a.bias"]],
        [[1, 256], ["b.scale"]],
        [[35, 1], ["c.weight"]],
        [
          [6, 1],
          ["c.bias", "c.temperature"],
        ],
        [[9, 64], ["d.weight"]],
      ],
    );
  });

  it("take a third of the nodes that each by itself takes", () => {
    const arithmetic = (layout: Layout): number => {
      const step = gradedStep(
        Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`layer${i}.weight`, [64, 64]])),
        updated("adamw", {}, { clipNorm: 1 }),
        { dialect: "training", layout },
      );
      return nodesOf([...step.updates.values(), step.applied]).filter((n) => n.op.type !== "Reshape").length;
    };
    const [apart, joined] = [arithmetic("apart"), arithmetic("stacked")];
    assert.ok(joined < apart / 3, `${joined} and ${apart}`);
  });
});
