import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { l2normalize } from "../../graphs/layers.js";
import { mocov2, shuffleDraw } from "../../graphs/methods/mocov2.js";
import { simclr } from "../../graphs/methods/simclr.js";
import { rootScope } from "../../graphs/scope.js";
import { gradients } from "../../src/autodiff.js";
import { input } from "../../src/onnx/graph.js";
import { random } from "../../src/random.js";
import { scalar, tensor } from "../../src/tensor.js";
import { trainingEngine } from "../engine.js";
import { evaluate } from "../evaluate.js";
import type { GoldenTensor } from "../goldens/case.js";

interface Reference {
  simclr: { batch: number; temperature: number; x: GoldenTensor; loss: number; grad: GoldenTensor }[];
  mocov2: {
    temperature: number;
    xq: GoldenTensor;
    xk: GoldenTensor;
    queue: GoldenTensor;
    loss: number;
    grad: GoldenTensor;
    rows: GoldenTensor;
  }[];
}
/** Made by bench/python/methods_reference.py with PyTorch in float64. */
const reference = JSON.parse(
  readFileSync(new URL("../../../test/fixtures/reference_methods.json", import.meta.url), "utf8"),
) as Reference;

const close = (got: ArrayLike<number | bigint>, want: readonly number[], within = 2e-6): void => {
  const largest = Math.max(...want.map(Math.abs));
  want.forEach((v, i) =>
    assert.ok(Math.abs(Number(got[i]) - v) <= within * (1 + largest), `[${i}]: ${got[i]}, expected ${v}`),
  );
};

/** SimCLR's loss and gradient of rows [2B,D], in a dialect. */
async function ntXent(rows: GoldenTensor, temperature: number, dialect: "portable" | "training" = "training") {
  const x = input("x", "float32", rows.shape, { path: "", dialect });
  const z = l2normalize(x);
  const { loss, metrics } = simclr.loss(rootScope(dialect).scope, { z }, { z }, { ...simclr.defaults, temperature });
  const [grad] = gradients(loss, [x]);
  return evaluate(
    await trainingEngine(),
    [x],
    { loss, grad: grad!, ...metrics },
    { x: tensor("float32", rows.shape, rows.data) },
  );
}

/** MoCo-v2's loss, gradient and new rows. */
async function infoNce(
  c: { xq: GoldenTensor; xk: GoldenTensor; queue: GoldenTensor; temperature: number },
  dialect: "portable" | "training" = "training",
) {
  const { scope, collected } = rootScope(dialect);
  const [xq, xk] = [input("xq", "float32", c.xq.shape, { path: "", dialect }), input("xk", "float32", c.xk.shape)];
  const own = { q: l2normalize(xq), k: l2normalize(xk) };
  const { loss, metrics } = mocov2.loss(scope, own, own, {
    ...mocov2.defaults,
    queueSize: c.queue.shape[0]!,
    temperature: c.temperature,
  });
  const [grad] = gradients(loss, [xq]);
  const queue = collected.states.get("queue")!;
  const feeds = {
    xq: tensor("float32", c.xq.shape, c.xq.data),
    xk: tensor("float32", c.xk.shape, c.xk.data),
    queue: tensor("float32", c.queue.shape, c.queue.data),
  };
  return evaluate(
    await trainingEngine(),
    [xq, xk, queue.input],
    { loss, grad: grad!, rows: queue.rows!, ...metrics },
    feeds,
  );
}

const unit = (n: number, d: number, at: (row: number) => number): GoldenTensor => ({
  shape: [n, d],
  data: Array.from({ length: n * d }, (_, i) => Number(i % d === at(Math.floor(i / d)))),
});

describe("SimCLR's loss", () => {
  for (const dialect of ["portable", "training"] as const)
    it(`equals PyTorch's, with its gradient (${dialect})`, async () => {
      for (const c of reference.simclr) {
        const out = await ntXent(c.x, c.temperature, dialect);
        close(out.loss!.data, [c.loss]);
        close(out.grad!.data, c.grad.data, 1e-5);
      }
    });
  it("is log(2B − 1) where all embeddings are equal", async () => {
    const out = await ntXent(
      unit(10, 4, () => 0),
      0.2,
    );
    close(out.loss!.data, [Math.log(9)]);
    close(out.positive!.data, [1]);
    close(out.negative!.data, [1]);
  });
  it("is log(1 + (2B − 2)e^(−1/τ)) where views agree and images are orthogonal", async () => {
    const out = await ntXent(
      unit(8, 4, (row) => row % 4),
      0.5,
    );
    close(out.loss!.data, [Math.log(1 + 6 * Math.exp(-2))]);
    close(out.positive!.data, [1]);
    close(out.negative!.data, [0]);
  });
  it("does not change when the two views change places", async () => {
    const { x, temperature } = reference.simclr[2]!;
    const half = x.data.length / 2;
    const swapped = { shape: x.shape, data: [...x.data.slice(half), ...x.data.slice(0, half)] };
    close((await ntXent(swapped, temperature)).loss!.data, [Number((await ntXent(x, temperature)).loss!.data[0])]);
  });
});

describe("MoCo-v2's loss", () => {
  for (const dialect of ["portable", "training"] as const)
    it(`equals PyTorch's, with its gradient and the rows that enter the queue (${dialect})`, async () => {
      for (const c of reference.mocov2) {
        const out = await infoNce(c, dialect);
        close(out.loss!.data, [c.loss]);
        close(out.grad!.data, c.grad.data, 1e-5);
        close(out.rows!.data, c.rows.data);
      }
    });
  it("is log(1 + K) where query, key and queue are one vector", async () => {
    const same = unit(4, 3, () => 1);
    const out = await infoNce({ xq: same, xk: same, queue: unit(12, 3, () => 1), temperature: 0.2 });
    close(out.loss!.data, [Math.log(13)]);
  });
  it("shuffles and puts back: each key is where it was", () => {
    const { shuffle, unshuffle } = shuffleDraw(random(0, "s"), 4, 16);
    for (let i = 0; i < 16; i++) assert.equal(Number(shuffle!.data[Number(unshuffle!.data[i])]), i);
    assert.deepEqual(shuffleDraw(random(0, "s"), 1, 16), {});
  });
});

describe("a scope", () => {
  const build = (momentum: number) => {
    const { scope, collected } = rootScope("training");
    const m = scope.scalar("m");
    const student = scope.child("student");
    const taught = scope.ema("teacher", student, m).parameter("w", [3], { name: "constant", value: 0 });
    const own = collected.parameters.get("student.w")!.value;
    const state = collected.states.get("teacher.w")!;
    return { m, taught, own, state, momentum };
  };
  const teacher = async (momentum: number): Promise<number[]> => {
    const { m, taught, own, state } = build(momentum);
    const out = await evaluate(
      await trainingEngine(),
      [m, own, state.input],
      { taught },
      {
        m: scalar(momentum),
        "student.w": tensor("float32", [3], [1, 2, 3]),
        "teacher.w": tensor("float32", [3], [7, 8, 9]),
      },
    );
    return [...(out.taught!.data as Float32Array)];
  };
  it("keeps the teacher at momentum 1 and copies the student at momentum 0", async () => {
    assert.deepEqual(await teacher(1), [7, 8, 9]);
    assert.deepEqual(await teacher(0), [1, 2, 3]);
  });
  it("gives the student no gradient through its teacher", async () => {
    const { taught, own } = build(0.5);
    const { Mul, ReduceSum } = await import("../../src/ops/index.js");
    const [grad] = gradients(ReduceSum(Mul(taught, taught), { keepdims: 0 }), [own]);
    const out = await evaluate(await trainingEngine(), [], { grad: grad! }, {});
    assert.deepEqual([...out.grad!.data], [0, 0, 0]);
  });
  it("refuses a batch that does not divide its queue", () => {
    const { scope } = rootScope("portable");
    scope.ring("queue", [10, 2], { name: "unitRows" });
    assert.throws(
      () => scope.push("queue", input("k", "float32", [4, 2])),
      /queue: a queue of 10 rows takes batches that divide it, got 4 rows a step\./,
    );
  });
  it("refuses two shapes for one parameter", () => {
    const { scope } = rootScope("portable");
    scope.parameter("w", [2], { name: "constant", value: 0 });
    assert.throws(
      () => scope.parameter("w", [3], { name: "constant", value: 0 }),
      /w is float32\[2\] already and cannot be \[3\] as well\./,
    );
  });
});
