import assert from "node:assert/strict";
import { methods, type Method, type MethodName } from "../../graphs/methods/index.js";
import { mocov2 } from "../../graphs/methods/mocov2.js";
import { rootScope, type Compute } from "../../graphs/scope.js";
import { packageStep, valuesOf } from "../../src/artifacts/index.js";
import { gradients } from "../../src/autodiff.js";
import type { TrainingSession } from "../../src/engines/index.js";
import { input, nodesOf, type Node, type Value } from "../../src/onnx/graph.js";
import { toModel } from "../../src/onnx/model.js";
import { withoutCudaKernel } from "../../src/ops/cuda.js";
import { Cast, MaxPool, Mul, ReduceSum } from "../../src/ops/index.js";
import { random } from "../../src/random.js";
import { initialTensors } from "../../src/step.js";
import { tensor, type Tensor, type Tensors } from "../../src/tensor.js";
import { portableEngine, trainingEngine } from "../engine.js";
import { evaluate } from "../evaluate.js";
import {
  tinyBatches,
  tinyInputs,
  tinyOptions,
  tinyNetworks,
  tinyScalars,
  tinyStep,
  type TinyNetwork,
} from "../tinyRun.js";

const dialects = ["training", "portable"] as const;
type Dialect = (typeof dialects)[number];
type StepOptions = Parameters<typeof tinyStep>[4];
const networksOf = (method: MethodName) => (method === "aps" ? (["vit"] as const) : (["resnet", "vit"] as const)); // aps: patches only
const stepNodes = (...step: Parameters<typeof tinyStep>): Node[] => nodesOf(valuesOf(tinyStep(...step)));
const is16 = (v: Value | null): boolean => v?.dtype === "float16" || v?.dtype === "bfloat16";
const named = (n: Node): string => `${n.origin?.path} ${n.op.type}`;

async function session(
  method: MethodName,
  which: TinyNetwork,
  engine: Dialect,
  options: StepOptions = {},
): Promise<TrainingSession> {
  const step = tinyStep(method, engine, which, "sgd", options);
  const opened = engine === "training" ? await trainingEngine() : portableEngine();
  return opened.trainingSession(packageStep(step, initialTensors(step, 3), [engine]));
}
const lossScale = (s: TrainingSession): number => Number(s.tensors()["lossScale.scale"]!.data[0]);
const without = (tensors: Tensors, ...left: string[]): Tensors =>
  Object.fromEntries(Object.entries(tensors).filter(([name]) => !left.includes(name)));

describe("a step of precision fp16", () => {
  for (const dialect of dialects)
    for (const method of ["simclr", "byol"] as const)
      for (const which of ["resnet", "vit", "mocoVit"] as const)
        it(`computes all layers' products in float16, forward and back: ${method}, ${which}, ${dialect}`, () => {
          const products = stepNodes(method, dialect, which, "sgd", { precision: "fp16", device: "cuda" }).filter(
            (n) => /^(Conv|ConvGrad|ConvTranspose|Gemm|MatMul)$/.test(n.op.type) && n.origin?.path.includes("backbone"),
          );
          assert.ok(products.length > 10);
          assert.deepEqual(products.filter((n) => !is16(n.outputs[0]!)).map(named), []);
        });

  for (const method of Object.keys(methods) as MethodName[])
    it(`leaves the loss as float32 has it, node by node: ${method}`, () => {
      const lossModel = (compute: Compute): Uint8Array => {
        const { scope: root, collected } = rootScope("training");
        const scope = root.with({ compute });
        const entry = methods[method] as unknown as Method<object>;
        const inputs = tinyInputs(method, 0);
        const given = Object.fromEntries(
          Object.entries(inputs).map(([name, t]) => [name, input(name, t.dtype, t.shape)]),
        );
        const network = tinyNetworks.vit;
        const embedded = entry.embed(scope, network, given, tinyOptions(method));
        const own = Object.fromEntries(
          Object.entries(embedded).map(([name, v]) => [name, input(`own.${name}`, v.dtype, v.shape, v.origin)]),
        );
        const { loss, metrics } = entry.loss(scope, own, own, tinyOptions(method));
        const states = [...collected.states.values()].map((s) => s.input);
        return toModel({
          inputs: [...Object.values(own), ...states, ...collected.scalars.values()],
          outputs: { loss, ...metrics },
        });
      };
      assert.deepEqual(lossModel("float16"), lossModel("float32"));
    });

  it("adds MaxPool's gradient up in float32, on the CPU too", async () => {
    const x = input("x", "float32", [2, 3, 7, 7], { path: "stem", dialect: "training" });
    const pooled = (v: Value): Value => MaxPool(v, { kernel: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] })[0];
    const slope = (y: Value): Value => gradients(ReduceSum(Mul(y, y), { keepdims: 0 }), [x])[0]!;
    const r = random(4, "pooled");
    const fed = tensor(
      "float32",
      [2, 3, 7, 7],
      Array.from({ length: 294 }, () => r.integer(100) / 64), // exact in float16, as their sums are
    );
    const outputs = { wide: slope(pooled(x)), narrow: slope(Cast(pooled(Cast(x, "float16")), "float32")) };
    const { wide, narrow } = await evaluate(await trainingEngine(), [x], outputs, { x: fed });
    assert.ok(wide!.data.some((g) => Number(g) !== 0));
    assert.deepEqual(narrow, wide);
  });

  it("has InfoNCE at τ = 0.01 as double precision has it", async () => {
    const [b, d, k, temperature] = [6, 8, 10, 0.01];
    const r = random(2, "rows");
    const unit = (n: number): number[][] =>
      Array.from({ length: n }, () => {
        const row = Array.from({ length: d }, () => r.normal());
        const norm = Math.hypot(...row);
        return row.map((v) => Math.fround(v / norm));
      });
    const [q, keys, queue] = [unit(b), unit(b), unit(k)];
    const scope = rootScope("training").scope.with({ compute: "float16" });
    const own = { q: input("q", "float32", [b, d]), k: input("k", "float32", [b, d]) };
    const options = { ...mocov2.defaults, queueSize: k, temperature };
    const { loss } = mocov2.loss(scope, own, { ...own, k: input("new", "float32", [5, d]) }, options);
    const rows = (m: number[][]): Tensor => tensor("float32", [m.length, d], m.flat());
    const fed = { q: rows(q), k: rows(keys), queue: rows(queue) };
    const inputs = [own.q, own.k, input("queue", "float32", [k, d])];
    const { loss: measured } = await evaluate(await trainingEngine(), inputs, { loss }, fed);
    const dot = (x: number[], y: number[]): number => x.reduce((s, v, i) => s + v * y[i]!, 0) / temperature;
    const expected = q.map((x, i) => {
      const scores = [dot(x, keys[i]!), ...queue.map((n) => dot(x, n))];
      const most = Math.max(...scores);
      return most + Math.log(scores.reduce((s, v) => s + Math.exp(v - most), 0)) - scores[0]!;
    });
    const mean = expected.reduce((s, v) => s + v / b, 0);
    assert.ok(Math.abs(Number(measured!.data[0]) / mean - 1) < 1e-5, `${measured!.data[0]} and ${mean}`);
  });

  it("normalises in float32, over float32 parameters, statistics, gradients and state", () => {
    const wide = /^(LayerNormalization|Softmax|LogSoftmax|SoftmaxCrossEntropyLoss|SoftmaxGrad_13)$/;
    for (const dialect of dialects)
      for (const which of ["resnet", "vit"] as const) {
        const step = tinyStep("mocov2", dialect, which, "adamw", { precision: "fp16" });
        const nodes = nodesOf(valuesOf(step));
        assert.deepEqual(nodes.filter((n) => wide.test(n.op.type) && is16(n.inputs[0]!)).map(named), []);
        const statistics = nodes.filter((n) => n.op.type === "BatchNormInternal").flatMap((n) => n.outputs.slice(1));
        assert.ok(dialect === "portable" || which === "vit" || statistics.length > 0);
        const kept = [
          ...step.parameters.map((p) => p.value),
          ...step.state.map((s) => s.input),
          ...step.gradients.values(),
          ...step.updates.values(),
        ];
        assert.deepEqual([...statistics, ...kept].filter(is16), []);
      }
  });

  it("casts each parameter once, however many views read it", () => {
    for (const method of ["byol", "mocov3"] as const) {
      const casts = stepNodes(method, "training", "resnet", "sgd", { precision: "fp16" }).filter(
        (n) => n.op.type === "Cast" && is16(n.outputs[0]!) && n.inputs[0]!.name,
      );
      assert.ok(casts.length > 20);
      assert.equal(new Set(casts.map((n) => n.inputs[0]!.name)).size, casts.length);
    }
  });

  for (const precision of ["fp16", "bf16"] as const)
    for (const dialect of dialects)
      for (const method of Object.keys(methods) as MethodName[])
        it(`has a CUDA kernel for every node: ${precision}, ${method}, ${dialect}`, () => {
          for (const which of precision === "bf16" ? (["vit"] as const) : networksOf(method)) {
            const step = tinyStep(method, dialect, which, "sgd", { precision, device: "cuda" });
            assert.deepEqual(withoutCudaKernel(valuesOf(step)).map(named), []);
          }
        });

  // One step at a time: free-running traces of so small networks part after a few steps, on any two libraries.
  for (const engine of dialects)
    for (const [method, which] of [
      ["mocov2", "resnet"],
      ["mocov3", "mocoVit"],
    ] as const)
      it(`from equal tensors has float32's loss and gradients, 4 steps one by one: ${method}, ${which}, ${engine}`, async () => {
        const wide = await session(method, which, engine);
        const narrow = await session(method, which, engine, { precision: "fp16", lossScale: { start: 1024 } });
        for (let t = 0; t < 4; t++) {
          narrow.load(wide.tensors());
          const inputs = tinyInputs(method, t);
          await wide.step(inputs, tinyScalars);
          assert.deepEqual(await narrow.step(inputs, tinyScalars), { applied: true });
          const [a, b] = [wide.metrics(), narrow.metrics()];
          for (const [what, tolerance] of [
            ["loss", 0.01],
            ["gradNorm", 0.05],
          ] as const)
            assert.ok(
              Math.abs(b[what]! - a[what]!) < tolerance * Math.abs(a[what]!),
              `${t}: ${what} ${b[what]} and ${a[what]}`,
            );
        }
        wide.release();
        narrow.release();
      });

  for (const engine of dialects)
    for (const [method, which] of [
      ["densecl", "vit"],
      ["simclr", "geluResnet"],
    ] as const)
      it(`runs within 1 % of float32 for 20 steps: ${method}, ${which}, ${engine}`, async () => {
        const [wide, narrow] = [
          await session(method, which, engine),
          await session(method, which, engine, { precision: "fp16", lossScale: { start: 1024 } }),
        ];
        const losses: number[] = [];
        for (let t = 0; t < 20; t++) {
          for (const s of [wide, narrow]) await s.step(tinyInputs(method, t), { ...tinyScalars, lr: 0.02 });
          const [a, b] = [wide, narrow].map((s) => s.metrics().loss!) as [number, number];
          losses.push(a);
          assert.ok(Math.abs(b - a) < 0.01 * a, `step ${t}: ${b} and ${a}`);
        }
        assert.ok(Math.abs(losses.at(-1)! - losses[0]!) > 0.1 * losses[0]!, "the losses move");
        wide.release();
        narrow.release();
      });
});

for (const engine of dialects)
  describe(`the loss scale on the ${engine} engine`, () => {
    it("is halved where a gradient overflows, and nothing else changes; then the step goes on", async () => {
      const s = await session("mocov2", "resnet", engine, { precision: "fp16", lossScale: { start: 2 ** 30 } });
      const before = without(s.tensors(), "lossScale.scale");
      let expected = 2 ** 30;
      for (;;) {
        const { applied } = await s.step(tinyInputs("mocov2", 0), tinyScalars);
        if (applied) break;
        expected /= 2;
        assert.equal(lossScale(s), expected);
        assert.deepEqual(without(s.tensors(), "lossScale.scale"), before);
      }
      assert.ok(expected < 2 ** 30, "the first step overflows");
      assert.equal(lossScale(s), expected);
      assert.equal(s.metrics().lossScale, expected);
      assert.notDeepEqual(without(s.tensors(), "lossScale.scale"), before);
      s.release();
    });

    it("is halved by an infinite pixel", async () => {
      const s = await session("mocov2", "vit", engine, { precision: "fp16" });
      const spoiled = tinyInputs("mocov2", 0);
      spoiled.views!.data[5] = Infinity;
      const before = without(s.tensors(), "lossScale.scale");
      assert.deepEqual(await s.step(spoiled, tinyScalars), { applied: false });
      assert.equal(lossScale(s), 32768);
      assert.deepEqual(without(s.tensors(), "lossScale.scale"), before);
      s.release();
    });

    it("doubles after so many finite steps in a row, counted anew after an overflow and after it has doubled", async () => {
      const s = await session("simclr", "vit", engine, {
        precision: "fp16",
        lossScale: { start: 16, growthInterval: 3 },
      });
      const spoiled = tinyInputs("simclr", 0);
      spoiled.views!.data[5] = Infinity;
      const scales: number[] = [];
      for (let t = 0; t < 9; t++) {
        await s.step(t === 2 ? spoiled : tinyInputs("simclr", t), tinyScalars);
        scales.push(lossScale(s));
      }
      assert.deepEqual(scales, [16, 16, 8, 8, 8, 16, 16, 16, 32]);
      s.release();
    });

    it("leaves the gradients as they are", async () => {
      const tensorsAfter = async (start: number): Promise<Tensors> => {
        const s = await session("mocov2", "vit", engine, { precision: "fp16", lossScale: { start } });
        await s.step(tinyInputs("mocov2", 0), tinyScalars);
        const after = without(s.tensors(), "lossScale.scale");
        s.release();
        return after;
      };
      const [a, b] = [await tensorsAfter(64), await tensorsAfter(512)];
      for (const [name, t] of Object.entries(a)) {
        if (!name.endsWith(".velocity")) continue;
        const [x, y] = [t, b[name]!].map((v) => Array.from(v.data, Number)) as [number[], number[]];
        const largest = Math.max(...x.map(Math.abs));
        x.forEach((v, i) => assert.ok(Math.abs(v - y[i]!) <= 2e-3 * largest, `${name}[${i}]: ${v} and ${y[i]}`));
      }
    });

    it("moves once an update where batches are accumulated", async () => {
      const options = { precision: "fp16", accumulate: 2, batch: 8, methodOptions: { bnGroups: 1 } } as const;
      const s = await session("mocov2", "vit", engine, { ...options, lossScale: { start: 1024, growthInterval: 1 } });
      const batches = ({ views }: Tensors) => tinyBatches({ views: views! }, 2);
      const scales: number[] = [];
      for (const spoil of [false, true, false]) {
        const [first, second] = batches(tinyInputs("mocov2", 0)) as [Tensors, Tensors];
        if (spoil) first.views!.data[5] = Infinity;
        for (const batch of [first, second]) {
          await s.step(batch, tinyScalars);
          scales.push(lossScale(s));
        }
      }
      assert.deepEqual(scales, [1024, 2048, 2048, 1024, 1024, 2048]);
      s.release();
    });

    it("is saved and loaded with the other state: two steps on from there are the same", async () => {
      const options = { precision: "fp16", lossScale: { start: 64, growthInterval: 2 } } as const;
      const [s, other] = [
        await session("mocov2", "vit", engine, options),
        await session("mocov2", "vit", engine, options),
      ];
      for (let t = 0; t < 3; t++) await s.step(tinyInputs("mocov2", t), tinyScalars);
      other.load(s.tensors());
      for (const one of [s, other]) for (let t = 3; t < 5; t++) await one.step(tinyInputs("mocov2", t), tinyScalars);
      assert.deepEqual(other.tensors(), s.tensors());
      assert.equal(lossScale(other), 256);
      for (const one of [s, other]) one.release();
    });
  });

describe("precision", () => {
  it("fp32 and tf32 are one graph, without casts or a loss scale", () => {
    const model = (precision: "fp32" | "tf32") => {
      const step = tinyStep("mocov2", "training", "resnet", "sgd", { precision });
      return packageStep(step, initialTensors(step, 0), ["training"]).trainingModel;
    };
    assert.deepEqual(model("fp32"), model("tf32"));
    assert.deepEqual(
      stepNodes("mocov2", "training", "vit").filter((n) => n.outputs.some(is16)),
      [],
    );
  });
  it("bf16 is for ViTs: elsewhere a sentence names what lacks kernels", () => {
    assert.throws(
      () => tinyStep("mocov2", "training", "resnet", "sgd", { precision: "bf16" }),
      /^Error: precision bf16: the library has no bfloat16 kernel for BatchNormInternal, .*ConvGrad.* \(first at student\.backbone\.\S+\)\. Take fp16, or a ViT\.$/,
    );
    const step = tinyStep("mocov2", "training", "vit", "sgd", { precision: "bf16" });
    assert.deepEqual(
      step.state.filter((s) => s.name.startsWith("lossScale")),
      [],
    );
    assert.ok(nodesOf(valuesOf(step)).some((n) => n.outputs[0]!.dtype === "bfloat16"));
  });
});
