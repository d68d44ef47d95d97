import assert from "node:assert/strict";
import { packageStep } from "../../src/artifacts/index.js";
import type { EngineName, TrainingSession } from "../../src/engines/index.js";
import { openEngine, type EngineOptions, type NativeEngine } from "../../src/engines/native/index.js";
import { constant, input } from "../../src/onnx/graph.js";
import { toModel } from "../../src/onnx/model.js";
import { Add, Gather, Less, MatMul, Mul, ReduceSum, Sub } from "../../src/ops/index.js";
import { portableLibrary } from "../../src/runtimes.js";
import { initialTensors, type TrainingStep } from "../../src/step.js";
import { tensor, type Tensor, type Tensors } from "../../src/tensor.js";
import { trainingEngine } from "../engine.js";
import { tinyBatches, tinyInputs, tinyScalars, tinyStep } from "../tinyRun.js";

const names = ["training", "portable"] as const;
const opened = async (name: EngineName, rest: Partial<EngineOptions> = {}): Promise<NativeEngine> =>
  openEngine({ library: (await trainingEngine()).library, name, threads: 1, ...rest });
/** The CPU's memory, used as a card's is. */
const apart = { memory: "device" } as const;

/** What a step can be like. */
const steps = {
  "with a queue": { which: "vit" },
  "of four batches": { which: "resnet", accumulate: 4, batch: 4 },
  "with a loss scale": { which: "vit", precision: "fp16", lossScale: { start: 2 ** 15, growthInterval: 2 } },
} as const;

describe("a step in a device's memory", () => {
  for (const name of names)
    for (const [what, { which, ...options }] of Object.entries(steps))
      it(`${what} is bit for bit the one in the host's, refused updates too (${name})`, async () => {
        const step = tinyStep("mocov2", name, which, "sgd", { ...options, methodOptions: { bnGroups: 1 } });
        const artifacts = packageStep(step, initialTensors(step, 3), [name]);
        const [there, here] = [
          await (await opened(name, apart)).trainingSession(artifacts),
          await (await opened(name)).trainingSession(artifacts),
        ];
        const applied: unknown[] = [];
        for (let t = 0; t < 6; t++) {
          const inputs = tinyInputs("mocov2", t);
          if (t === 1 || t === 2) inputs.views!.data[5] = Infinity;
          for (const batch of tinyBatches(inputs, step.accumulation?.batches ?? 1)) {
            const [a, b] = [await there.step(batch, tinyScalars), await here.step(batch, tinyScalars)];
            assert.deepEqual(a, b);
            applied[t] = a.applied;
          }
          assert.deepEqual(there.metrics(), here.metrics());
          assert.deepEqual(there.tensors(), here.tensors());
          if (t === 3) for (const s of [there, here]) s.load(artifacts.initial);
        }
        assert.deepEqual(applied.slice(0, 4), [true, false, false, true]);
        there.release();
        here.release();
      });
});

/** p ← p − lr · (p − x[i]), and a velocity; an index that x does not have makes the run fail. */
function pickyStep(dialect: EngineName, width: number): TrainingStep {
  const p = input("p", "float32", [width], { path: "p", dialect });
  const v = input("v", "float32", [width]);
  const x = input("x", "float32", [2, width]);
  const i = input("i", "int64", []);
  const lr = input("lr", "float32", []);
  const g = Sub(p, Gather(x, i));
  const parameter = { name: "p", value: p, init: { name: "constant", value: 1 }, trainable: true } as const;
  const loss = ReduceSum(Mul(g, g), { keepdims: 0 });
  return {
    dialect,
    inputs: [x, i],
    scalars: [lr],
    parameters: [parameter],
    state: [{ name: "v", input: v, init: { name: "constant", value: 0 }, next: Add(Mul(v, 0.5), g) }],
    loss,
    metrics: {},
    applied: Less(loss, constant([], 1e9)),
    gradients: new Map([[parameter, g]]),
    updates: new Map([[parameter, Mul(g, lr)]]),
  };
}
/** Its feeds: x is 3 in row 0 and 5 in row 1. */
const fed = (width: number, i: number): Tensors => ({
  x: tensor(
    "float32",
    [2, width],
    Array.from({ length: 2 * width }, (_, k) => (k < width ? 3 : 5)),
  ),
  i: tensor("int64", [], [i]),
});

for (const name of names)
  describe(`a training session in a device's memory (${name})`, () => {
    async function session(width: number): Promise<{ engine: NativeEngine; session: TrainingSession }> {
      const engine = await opened(name, apart);
      const step = pickyStep(name, width);
      return { engine, session: await engine.trainingSession(packageStep(step, initialTensors(step, 0), [name])) };
    }
    /** What resident memory grows by over so many goes, after some. */
    async function growth(goes: number, go: () => Promise<unknown>): Promise<number> {
      const after = async (n: number): Promise<number> => {
        for (let i = 0; i < n; i++) await go();
        global.gc?.();
        return process.memoryUsage().rss;
      };
      const start = await after(goes / 5);
      return ((await after(goes)) - start) / 1e6;
    }

    it("keeps resident memory flat, whether tensors are fed or residents", async () => {
      const { engine, session: s } = await session(64);
      const feeds = fed(64, 0);
      const tensors = await growth(3000, () => s.step(feeds, { lr: 0.01 }));
      const residents = await growth(3000, async () => {
        const there = await engine.upload(feeds);
        await s.step(there, { lr: 0.01 });
        for (const r of Object.values(there)) r.release();
      });
      assert.ok(tensors < 16 && residents < 16, `it grew by ${tensors} and ${residents} MB`);
      s.release();
    });

    it("loses nothing to steps that fail, and goes on after them", async () => {
      const { session: s } = await session(2 ** 20);
      const before = s.tensors();
      const beyond = fed(2 ** 20, 7); // 8 MB
      const grown = await growth(10, () => assert.rejects(s.step(beyond, { lr: 1 }), /out of data bounds/));
      assert.ok(grown < 24, `resident memory grew by ${grown} MB over ten`);
      assert.deepEqual(s.tensors(), before);
      assert.deepEqual(await s.step(fed(2 ** 20, 1), { lr: 1 }), { applied: true });
      assert.deepEqual([...s.tensors().p!.data.slice(0, 2)], [5, 5]);
      s.release();
    });

    it("takes an upload while a step is in flight, and keeps it for the next", async () => {
      const { engine, session: s } = await session(4);
      const running = s.step(fed(4, 1), { lr: 1 });
      const next = await engine.upload(fed(4, 0));
      await running;
      assert.deepEqual([...s.tensors().p!.data], [5, 5, 5, 5]);
      await s.step(next, { lr: 1 });
      assert.deepEqual([...s.tensors().p!.data], [3, 3, 3, 3]);
      for (const r of Object.values(next)) r.release();
      await assert.rejects(s.step(next, { lr: 1 }), /This resident float32\[2,4\] is released/);
      s.release();
    });
  });

describe("the step graph through its bindings", () => {
  it("computes what a run of its model with the same feeds does", async () => {
    const engine = await opened("portable");
    const step = tinyStep("mocov2", "portable", "vit");
    const artifacts = packageStep(step, initialTensors(step, 3), ["portable"]);
    const { manifest, initial, stepModel } = artifacts;
    const [session, model] = [await engine.trainingSession(artifacts), await engine.session(stepModel!)];
    let carried = initial;
    for (let t = 0; t < 3; t++) {
      const scalars = Object.fromEntries(
        manifest.scalars.map((s) => [s, tensor("float32", [], [tinyScalars[s as keyof typeof tinyScalars]])]),
      );
      const out = await model.run({ ...carried, ...tinyInputs("mocov2", t), ...scalars });
      await session.step(tinyInputs("mocov2", t), tinyScalars);
      const { queue, ...rest } = session.tensors();
      for (const s of manifest.state) if (s.at === "next") assert.deepEqual(rest[s.name], out[s.output], s.name);
      for (const p of manifest.parameters) if (p.trainable) assert.deepEqual(rest[p.name], out[`${p.name}.next`]);
      carried = { ...rest, queue: queue! };
    }
    session.release();
    model.release();
  });
});

describe("residents", () => {
  const a = input("a", "float32", ["N", 4]);
  const b = input("b", "float32", [4, 4]);
  const model = toModel({ inputs: [a, b], outputs: { y: MatMul(a, b), z: Add(a, 1) } });
  const rows = tensor(
    "float32",
    [3, 4],
    Array.from({ length: 12 }, (_, i) => i),
  );
  const twice = tensor(
    "float32",
    [4, 4],
    Array.from({ length: 16 }, (_, i) => (i % 5 === 0 ? 2 : 0)),
  );
  const doubled = (t: Tensor): number[] => Array.from(t.data as Float32Array, (v) => 2 * v);

  for (const memory of ["host", "device"] as const)
    it(`go from session to session where they are (${memory})`, async () => {
      const engine = await opened("portable", { memory });
      assert.equal(engine.apart, memory === "device");
      const session = await engine.session(model);
      const { b: fixed } = await engine.upload({ b: twice });
      const first = await session.keep({ a: rows, b: fixed! });
      assert.deepEqual([first.y!.dtype, first.y!.shape], ["float32", [3, 4]]);
      const second = await session.keep({ a: first.y!, b: fixed! }, ["y"]);
      assert.deepEqual(Object.keys(second), ["y"]);
      assert.deepEqual([...(await second.y!.read()).data], doubled(await first.y!.read()));
      const { y } = await session.run({ a: second.y!, b: fixed! }, ["y"]);
      assert.deepEqual([...y!.data], doubled(await second.y!.read()));
      const again = await engine.upload({ y: first.y!, rows });
      assert.equal(await again.y!.read().then((t) => t.data[5]), 10); // there already
      assert.deepEqual(await again.rows!.read(), rows);
      for (const r of [fixed!, first.y!, first.z!, second.y!, again.rows!]) {
        r.release();
        r.release(); // twice is once
      }
      session.release();
    });

  it("are refused where the elements are too few", async () => {
    const engine = await opened("portable", apart);
    await assert.rejects(
      engine.upload({ rows: { ...rows, shape: [4, 4] } }),
      /A float32\[4,4\] was fed with 12 elements/,
    );
  });

  it("are the tensors themselves on the CPU", async () => {
    const engine = await opened("portable");
    const { rows: there } = await engine.upload({ rows });
    assert.equal((await there!.read()).data, rows.data);
  });

  it("of one library's device are refused by another's", async () => {
    const [one, other] = [
      await opened("portable", apart),
      await opened("portable", { library: portableLibrary(), ...apart }),
    ];
    const { rows: there } = await one.upload({ rows });
    await assert.rejects(other.upload({ there: there! }), /A resident float32\[3,4\] of another library was fed/);
    await assert.rejects((await opened("portable")).upload({ there: there! }), /lives on a device/);
    there!.release();
  });
});

describe("a step that is captured", () => {
  const captured = { ...apart, cuda: { graphs: true } } as const; // without a card: plain runs in the order and places of replays
  it("is bit for bit the one that is not, refused updates and a loss scale too", async () => {
    const options = { precision: "fp16", lossScale: { start: 2 ** 15, growthInterval: 2 } } as const;
    const step = tinyStep("mocov2", "portable", "vit", "sgd", options);
    const artifacts = packageStep(step, initialTensors(step, 3), ["portable"]);
    const [engine, plain] = [await opened("portable", captured), await opened("portable")];
    const [there, here] = [await engine.trainingSession(artifacts), await plain.trainingSession(artifacts)];
    assert.deepEqual(there.tensors(), here.tensors());
    for (let t = 0; t < 6; t++) {
      const inputs = tinyInputs("mocov2", t);
      if (t === 1 || t === 2) inputs.views!.data[5] = Infinity;
      const fed = t % 2 ? inputs : await engine.upload(inputs);
      assert.deepEqual(await there.step(fed, tinyScalars), await here.step(inputs, tinyScalars));
      assert.deepEqual(there.metrics(), here.metrics());
      assert.deepEqual(there.tensors(), here.tensors());
      if (t === 3) for (const s of [there, here]) s.load(artifacts.initial);
    }
    there.release();
    here.release();
  });

  it("is refused where it accumulates, and on OrtTrainingApi", async () => {
    const engine = await opened("portable", captured);
    const step = tinyStep("mocov2", "portable", "vit", "sgd", {
      accumulate: 2,
      batch: 8,
      methodOptions: { bnGroups: 1 },
    });
    await assert.rejects(engine.trainingSession(packageStep(step, initialTensors(step, 3), ["portable"])), {
      message: "A CUDA graph holds a step of one batch, and this one accumulates 2. Leave --cuda-graphs out.",
    });
    await assert.rejects(opened("training", captured), /Open the engine as portable/);
  });
});
