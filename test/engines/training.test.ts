import assert from "node:assert/strict";
import type { MethodName } from "../../graphs/methods/index.js";
import { packageStep } from "../../src/artifacts/index.js";
import type { TrainingSession } from "../../src/engines/index.js";
import { openEngine } from "../../src/engines/native/index.js";
import { constant, input } from "../../src/onnx/graph.js";
import { toModel } from "../../src/onnx/model.js";
import { And, Less, Mul, ReduceSum, Relu, Sub } from "../../src/ops/index.js";
import { portableLibrary } from "../../src/runtimes.js";
import { initialTensors, type TrainingStep } from "../../src/step.js";
import { tensor, type Tensors } from "../../src/tensor.js";
import { portableEngine, trainingEngine } from "../engine.js";
import { tinyInputs, tinyScalars, tinyStep, type TinyNetwork } from "../tinyRun.js";

const largest = (t: Tensors[string]): number =>
  Array.from(t.data as Float32Array).reduce((m, v) => Math.max(m, Math.abs(Number(v))), 0);
function apart(a: Tensors, b: Tensors): [string, number] {
  let worst: [string, number] = ["", 0];
  for (const [name, t] of Object.entries(a)) {
    const other = b[name]!.data as Float32Array;
    const off =
      Array.from(t.data as Float32Array).reduce((m, v, i) => Math.max(m, Math.abs(Number(v) - Number(other[i]))), 0) /
      (1 + largest(t));
    if (!(off <= worst[1])) worst = [name, off];
  }
  return worst;
}

async function sessionsOf(
  method: MethodName,
  which: TinyNetwork = "resnet",
): Promise<[TrainingSession, TrainingSession]> {
  const training = tinyStep(method, "training", which);
  const portable = tinyStep(method, "portable", which);
  const start = initialTensors(training, 3);
  // steps so small are quickest on one thread
  const one = openEngine({ library: (await trainingEngine()).library, name: "training", threads: 1 });
  const other = openEngine({ library: portableLibrary(), name: "portable", threads: 1 });
  return [
    await one.trainingSession(packageStep(training, start, ["training"])),
    await other.trainingSession(packageStep(portable, start, ["portable"])),
  ];
}

describe("the two packagings of a step", () => {
  // Networks without kinks: a ReLU input next to 0 that changes sign moves single gradients by more than rounding, on any two libraries.
  // Heads have ReLUs; a rate at which the loss does not jump about keeps their inputs from crossing 0 in hundreds at a step.
  const cases: Record<MethodName, { which: TinyNetwork; lr: number }> = {
    aps: { which: "vit", lr: 0.005 },
    bagssl: { which: "vit", lr: 0.05 },
    byol: { which: "vit", lr: 0.05 },
    cacr: { which: "vit", lr: 0.05 },
    densecl: { which: "vit", lr: 0.05 },
    isd: { which: "vit", lr: 0.05 },
    mocov2: { which: "geluResnet", lr: 0.05 },
    mocov3: { which: "mocoVit", lr: 0.02 },
    simclr: { which: "vit", lr: 0.05 },
    tcr: { which: "vit", lr: 0.05 },
    vicreg: { which: "geluResnet", lr: 0.005 },
  };
  for (const [method, { which, lr }] of Object.entries(cases) as [MethodName, (typeof cases)[MethodName]][])
    it(`${method} on a ${which}: from equal parameters and state, 50 steps are equal one by one`, async () => {
      const [training, portable] = await sessionsOf(method, which);
      const losses: number[] = [];
      for (let t = 0; t < 50; t++) {
        portable.load(training.tensors());
        const inputs = tinyInputs(method, t);
        const scalars = { ...tinyScalars, lr };
        await training.step(inputs, scalars);
        await portable.step(inputs, scalars);
        const [a, b] = [training.metrics(), portable.metrics()];
        losses.push(a.loss!);
        assert.ok(Math.abs(a.loss! - b.loss!) < 1e-4, `step ${t}: loss ${a.loss} and ${b.loss}`);
        assert.ok(
          Math.abs(a.gradNorm! - b.gradNorm!) < 1e-4 * (1 + a.gradNorm!),
          `step ${t}: gradient norm ${a.gradNorm} and ${b.gradNorm}`,
        );
        // velocities hold the gradients
        const [name, off] = apart(training.tensors(), portable.tensors());
        assert.ok(off < 1e-4, `step ${t}: ${name} is off by ${off}`);
      }
      assert.ok(
        Math.abs(losses.at(-1)! - losses[0]!) > 0.1 * Math.abs(losses[0]!),
        `loss went from ${losses[0]} to ${losses.at(-1)}`,
      );
      training.release();
      portable.release();
    });
});

describe("a training session", () => {
  it("wraps a queue around and counts its steps", async () => {
    const [session, other] = await sessionsOf("mocov2");
    const start = session.tensors().queue!;
    for (let t = 0; t < 5; t++) await session.step(tinyInputs("mocov2", t), tinyScalars);
    const { queue, step } = session.tensors();
    assert.equal(Number(step!.data[0]), 5);
    // 4 batches of 16 fill 64 rows; the fifth overwrote rows 0–15
    for (let row = 0; row < 64; row++)
      assert.notDeepEqual([...queue!.data.slice(8 * row, 8 * row + 8)], [...start.data.slice(8 * row, 8 * row + 8)]);
    session.release();
    other.release();
  });

  it("changes nothing at a step whose gradient is not finite", async () => {
    for (const session of await sessionsOf("mocov2")) {
      const before = session.tensors();
      const bad = tinyInputs("mocov2", 0);
      bad.views!.data[5] = Infinity;
      assert.deepEqual(await session.step(bad, tinyScalars), { applied: false });
      assert.deepEqual(session.tensors(), before);
      assert.deepEqual(await session.step(tinyInputs("mocov2", 0), tinyScalars), { applied: true });
      session.release();
    }
  });

  it("says which input does not fit", async () => {
    const [session, other] = await sessionsOf("simclr");
    const views = tensor("float32", [1], [0]);
    await assert.rejects(session.step({ views }, tinyScalars), {
      message: 'Input "views" is float32[2,16,3,16,16] in the step but float32[1] was fed.',
    });
    await assert.rejects(session.step({}, tinyScalars), /The step needs input "views"/);
    await assert.rejects(session.step(tinyInputs("simclr", 0), {}), /The step needs scalar "lr"/);
    assert.throws(
      () => session.load({ "student.projector.0.bias": tensor("float32", [3], [1, 2, 3]) }),
      /is \[3\] in what is loaded, \[16\] in the graph/,
    );
    session.release();
    other.release();
  });

  it("keeps resident memory flat over 5,000 small steps", async () => {
    const p = input("p", "float32", [64], { path: "p", dialect: "training" });
    const v = input("v", "float32", [64]);
    const x = input("x", "float32", [64]);
    const lr = input("lr", "float32", []);
    const g = Sub(p, x);
    const next = Mul(g, 0.5);
    const parameter = { name: "p", value: p, init: { name: "constant", value: 1 }, trainable: true } as const;
    const loss = ReduceSum(Mul(g, g), { keepdims: 0 });
    const step: TrainingStep = {
      dialect: "training",
      inputs: [x],
      scalars: [lr],
      parameters: [parameter],
      state: [{ name: "v", input: v, init: { name: "constant", value: 0 }, next }],
      loss,
      metrics: {},
      applied: And(Less(loss, constant([], 1e9)), Less(loss, constant([], 1e9))),
      gradients: new Map([[parameter, g]]),
      updates: new Map([[parameter, Mul(g, lr)]]),
    };
    const session = await (
      await trainingEngine()
    ).trainingSession(packageStep(step, initialTensors(step, 0), ["training"]));
    const feeds = { x: tensor("float32", [64], new Array<number>(64).fill(3)) };
    const run = async (n: number): Promise<number> => {
      for (let i = 0; i < n; i++) await session.step(feeds, { lr: 0.1 });
      global.gc?.();
      return process.memoryUsage().rss;
    };
    const before = await run(1000);
    const after = await run(5000);
    assert.ok(after - before < 24e6, `resident memory grew by ${((after - before) / 1e6).toFixed(1)} MB`);
    assert.ok(Math.abs(Number(session.tensors().p!.data[0]) - 3) < 1e-4);
    session.release();
  });
});

describe("released sessions", () => {
  it("give their memory back", async () => {
    const engine = await trainingEngine();
    const step = tinyStep("mocov2", "training");
    const artifacts = packageStep(step, initialTensors(step, 0), ["training"]);
    const cycle = async (n: number): Promise<number> => {
      for (let i = 0; i < n; i++) {
        const session = await engine.trainingSession(artifacts);
        await session.step(tinyInputs("mocov2", i), tinyScalars);
        session.release();
        session.release(); // twice is once
      }
      global.gc?.();
      return process.memoryUsage().rss;
    };
    const before = await cycle(3);
    const after = await cycle(10);
    assert.ok(
      after - before < 80e6,
      `resident memory grew by ${((after - before) / 1e6).toFixed(1)} MB over 10 sessions`,
    );
  });
});

describe("a plain session", () => {
  it("leaves the event loop free", async () => {
    const n = 700;
    const a = input("a", "float32", [n, n]);
    let y = a;
    const { MatMul } = await import("../../src/ops/index.js");
    for (let i = 0; i < 12; i++) y = MatMul(y, a);
    const session = await portableEngine().session(toModel({ inputs: [a], outputs: { y } }));
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    await session.run({ a: tensor("float32", [n, n], new Array<number>(n * n).fill(0)) });
    clearInterval(timer);
    session.release();
    assert.ok(ticks > 10, `the timer ticked ${ticks} times`);
  });

  it("reads small tensors from memory that does not move", async () => {
    const x = input("x", "float32", ["N"]);
    const session = await portableEngine().session(toModel({ inputs: [x], outputs: { y: Relu(x) } }));
    for (let i = 0; i < 500; i++) {
      const data = Float32Array.of(i, -1 - i);
      const { y } = await session.run({ x: { dtype: "float32", shape: [2], data } });
      assert.deepEqual([...y!.data], [i, 0]);
    }
    session.release();
  });

  it("names what it misses and what it has", async () => {
    const x = input("x", "float32", [1]);
    const session = await portableEngine().session(toModel({ inputs: [x], outputs: { y: Relu(x) } }));
    await assert.rejects(session.run({ z: tensor("float32", [1], [1]) }), /The model needs input "x"; it was fed z\./);
    await assert.rejects(
      session.run({ x: tensor("float32", [1], [1]) }, ["q"]),
      /The model has no output "q"; it has y\./,
    );
    session.release();
    await assert.rejects(session.run({ x: tensor("float32", [1], [1]) }), /released/);
  });
});

describe("opening a library", () => {
  it("refuses training on a library without the training API", () => {
    assert.throws(
      () => openEngine({ library: portableLibrary(), name: "training" }),
      /has no training API\. Install one that has: diptych runtime install/,
    );
  });
  it("refuses a file that is no library, and one that is not there", () => {
    assert.throws(
      () => openEngine({ library: new URL(import.meta.url).pathname, name: "portable" }),
      /does not load as an ONNX Runtime library on/,
    );
    assert.throws(
      () => openEngine({ library: "/nowhere/libonnxruntime.so", name: "portable" }),
      /There is no ONNX Runtime library at/,
    );
  });
});
