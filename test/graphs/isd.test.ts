import assert from "node:assert/strict";
import { distill, isd } from "../../graphs/methods/isd.js";
import { rootScope } from "../../graphs/scope.js";
import { gradients } from "../../src/autodiff.js";
import { input, type Value } from "../../src/onnx/graph.js";
import { initialTensors } from "../../src/step.js";
import { tensor, type Tensors } from "../../src/tensor.js";
import { trainingEngine } from "../engine.js";
import { evaluate } from "../evaluate.js";

const rows = (name: string, n: number, d: number): Value =>
  input(name, "float32", [n, d], { path: "", dialect: "training" });
const identity = (n: number, d: number, at: (row: number) => number) =>
  tensor(
    "float32",
    [n, d],
    Array.from({ length: n * d }, (_, i) => Number(i % d === at(Math.floor(i / d)))),
  );

/** ISD's loss and its gradients of q and k. */
async function kl(feeds: Tensors, temperatures: { studentTemp: number; teacherTemp: number }) {
  const [q, k, queue] = Object.entries(feeds).map(([name, t]) => rows(name, t.shape[0]!, t.shape[1]!)) as [
    Value,
    Value,
    Value,
  ];
  const { loss, teacherEntropy } = distill(q, k, queue, temperatures);
  const [gq, gk] = gradients(loss, [q, k]);
  return evaluate(await trainingEngine(), [q, k, queue], { loss, teacherEntropy, gq: gq!, gk: gk! }, feeds);
}
const near = (got: Tensors[string], want: number) =>
  assert.ok(Math.abs(Number(got.data[0]) - want) < 2e-6 * (1 + Math.abs(want)), `got ${got.data[0]}, expected ${want}`);

describe("ISD's loss", () => {
  const q = identity(3, 4, (row) => row);
  const queue = identity(8, 4, (row) => row % 4);
  it("is 0, without gradient, where student and teacher see the same", async () => {
    const out = await kl({ q, k: q, queue }, { studentTemp: 0.1, teacherTemp: 0.1 });
    near(out.loss!, 0);
    assert.ok(out.gq!.data.every((v) => Math.abs(Number(v)) < 1e-6));
  });
  it("leaves the teacher without gradient", async () => {
    const out = await kl({ q, k: identity(3, 4, (row) => row + 1), queue }, { studentTemp: 0.1, teacherTemp: 0.05 });
    assert.ok(out.gk!.data.every((v) => Number(v) === 0));
    assert.ok(out.gq!.data.some((v) => Number(v) !== 0));
  });
  it("is (1/τ)·(p − p') where the teacher looks another way: p the share of its own two anchors, p' of the student's", async () => {
    // both have logits 1/τ on two of eight anchors and 0 elsewhere, on different ones
    const t = 0.5;
    const out = await kl({ q, k: identity(3, 4, (row) => row + 1), queue }, { studentTemp: t, teacherTemp: t });
    const z = 2 * Math.exp(1 / t) + 6;
    near(out.loss!, (2 * (Math.exp(1 / t) - 1)) / z / t);
    near(out.teacherEntropy!, Math.log(z) - (2 * Math.exp(1 / t)) / z / t);
  });
});

describe("ISD's options", () => {
  it("give the teacher the weak view and the student the strong one", () => {
    const [student, teacher] = isd.views(isd.defaults, 32);
    assert.deepEqual([student!.name, teacher!.name], ["student", "teacher"]);
    assert.ok(student!.jitter && student!.blur && student!.grey === 0.2);
    assert.ok(!teacher!.jitter && !teacher!.blur && teacher!.grey === 0 && teacher!.flip === 0.5);
  });
  it("that do not exist are answered with those that do", () => {
    assert.throws(
      () => isd.views({ ...isd.defaults, augmentation: "weak/wild" as never }, 32),
      /Unknown strength of isd's augmentation \(teacher\/student\) "wild"\. Available: strong, weak\./,
    );
    const embed = (o: object) =>
      isd.embed(
        rootScope("training").scope,
        () => assert.fail(),
        { student: input("s", "float32", [1, 2, 3, 8, 8]), teacher: input("t", "float32", [1, 2, 3, 8, 8]) },
        { ...isd.defaults, ...o },
      );
    assert.throws(
      () => embed({ variant: "v2" }),
      /Unknown variant of isd "v2"\. Did you mean v1\? Available: plus, v1\./,
    );
    const loss = (o: object) =>
      isd.loss(
        rootScope("training").scope,
        { q: rows("q", 2, 4), k: rows("k", 2, 4) },
        { k: rows("k", 2, 4) },
        { ...isd.defaults, ...o },
      );
    assert.throws(() => loss({ queueInit: "colums" }), /Unknown queueInit of isd "colums"\. Did you mean columns\?/);
    assert.throws(
      () => loss({ queueSize: 5 }),
      /queue: a queue of 5 rows takes batches that divide it, got 2 rows a step\./,
    );
  });
  it("start the released v1's queue with unit columns, and only that", () => {
    assert.deepEqual(isd.released!({ ...isd.defaults, variant: "v1" }), { queueInit: "columns" });
    assert.deepEqual(isd.released!(isd.defaults), { queueInit: "rows" });
    const { scope, collected } = rootScope("training");
    isd.loss(
      scope,
      { q: rows("q", 2, 4), k: rows("k", 2, 4) },
      { k: rows("k", 2, 4) },
      { ...isd.defaults, queueSize: 64, queueInit: "columns" },
    );
    const { input: value, init } = collected.states.get("queue")!;
    const { queue } = initialTensors(
      { parameters: [], state: [{ name: "queue", input: value, init, next: value }] },
      0,
    );
    for (let column = 0; column < 4; column++) {
      const norm = Math.hypot(...Array.from({ length: 64 }, (_, row) => Number(queue!.data[4 * row + column])));
      assert.ok(Math.abs(norm - 1) < 1e-6);
    }
  });
});
