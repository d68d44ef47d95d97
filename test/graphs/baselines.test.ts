/** BYOL and MoCo-v3: no golden file, so PyTorch's numbers once, closed forms, and what the teacher must not do. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { byol } from "../../graphs/methods/byol.js";
import type { Embeddings } from "../../graphs/methods/index.js";
import { inBatch, mocov3 } from "../../graphs/methods/mocov3.js";
import { rootScope } from "../../graphs/scope.js";
import { gradients } from "../../src/autodiff.js";
import { input, type Dialect, type Value } from "../../src/onnx/graph.js";
import { scheduled } from "../../src/schedules.js";
import { tensor } from "../../src/tensor.js";
import { portableEngine, trainingEngine } from "../engine.js";
import { evaluate } from "../evaluate.js";
import type { GoldenTensor } from "../goldens/case.js";
import { tinyStep } from "../tinyRun.js";

type Rows = Record<string, GoldenTensor>;
/** Made by bench/python/methods_reference.py with PyTorch in float64. */
const reference = JSON.parse(
  readFileSync(new URL("../../../test/fixtures/reference_methods.json", import.meta.url), "utf8"),
) as {
  byol: (Rows & { symmetric: boolean; loss: number })[];
  mocov3: (Rows & { temperature: number; loss: number })[];
};

type Loss = (own: Embeddings) => { loss: Value; metrics: Record<string, Value> };
const byolLoss = (dialect: Dialect): Loss => {
  return (own) => byol.loss(rootScope(dialect).scope, own, own, byol.defaults);
};
const mocov3Loss = (dialect: Dialect, temperature: number): Loss => {
  return (own) => mocov3.loss(rootScope(dialect).scope, own, own, { ...mocov3.defaults, temperature });
};

/** A loss on rows by name, its metrics, and its gradients with respect to all of them. */
async function on(loss: Loss, rows: Rows, dialect: Dialect = "training") {
  const values = Object.fromEntries(
    Object.entries(rows).map(([name, t]) => [name, input(name, "float32", t.shape, { path: "", dialect })]),
  );
  const result = loss(values);
  const grads = gradients(result.loss, Object.values(values));
  return evaluate(
    dialect === "training" ? await trainingEngine() : portableEngine(),
    Object.values(values),
    {
      loss: result.loss,
      ...result.metrics,
      ...Object.fromEntries(Object.keys(values).map((name, i) => [`grad ${name}`, grads[i]!])),
    },
    Object.fromEntries(Object.entries(rows).map(([name, t]) => [name, tensor("float32", t.shape, t.data)])),
  );
}
const close = (got: ArrayLike<number | bigint>, want: readonly number[], within = 4e-6): void => {
  const largest = Math.max(...want.map(Math.abs));
  want.forEach((v, i) =>
    assert.ok(Math.abs(Number(got[i]) - v) <= within * (1 + largest), `[${i}]: ${got[i]}, expected ${v}`),
  );
};
/** Row i is the unit vector number at(i). */
const unit = (n: number, d: number, at: (row: number) => number): GoldenTensor => ({
  shape: [n, d],
  data: Array.from({ length: n * d }, (_, i) => Number(i % d === at(Math.floor(i / d)))),
});
const same = unit(4, 6, (row) => row);

describe("BYOL's loss", () => {
  for (const dialect of ["portable", "training"] as const)
    it(`equals PyTorch's, with its gradients (${dialect})`, async () => {
      for (const { symmetric, p1, p2, z1, z2, loss, grad1, grad2 } of reference.byol) {
        const rows = symmetric ? { p1, p2, z1, z2 } : { p1, z2 };
        const out = await on(byolLoss(dialect), rows as Rows, dialect);
        close(out.loss!.data, [loss]);
        close(out["grad p1"]!.data, grad1!.data);
        if (symmetric) close(out["grad p2"]!.data, grad2!.data);
      }
    });
  it("is 0 where prediction and target agree, 4 a direction where they are opposite", async () => {
    const opposite = { shape: same.shape, data: same.data.map((v) => -3 * v) };
    close((await on(byolLoss("training"), { p1: same, p2: same, z1: same, z2: same })).loss!.data, [0]);
    close((await on(byolLoss("training"), { p1: same, p2: same, z1: opposite, z2: opposite })).loss!.data, [8]);
    close((await on(byolLoss("training"), { p1: same, z2: opposite })).loss!.data, [4]);
  });
  it("does not depend on the length of its vectors, and gives the teacher no gradient", async () => {
    const { p1, z2 } = reference.byol[1]!;
    const longer = (t: GoldenTensor): GoldenTensor => ({ shape: t.shape, data: t.data.map((v) => 4 * v) });
    const out = await on(byolLoss("training"), { p1: longer(p1!), z2: longer(z2!) });
    close(out.loss!.data, [reference.byol[1]!.loss]);
    assert.ok(out["grad z2"]!.data.every((v) => Number(v) === 0));
  });
  it("predicts one way only where it is asymmetric", () => {
    const inputsOf = (symmetric: boolean) => {
      const { scope } = rootScope("training");
      const [view1, view2] = ["view1", "view2"].map((n) => input(n, "float32", [1, 4, 3, 8, 8])) as [Value, Value];
      const pixels = (_s: unknown, image: Value) => ({ map: image, features: input("f", "float32", [4, 6]) });
      return Object.keys(byol.embed(scope, pixels, { view1, view2 }, { ...byol.defaults, symmetric }));
    };
    assert.deepEqual(inputsOf(false), ["p1", "z2"]);
    assert.deepEqual(inputsOf(true), ["p1", "p2", "z1", "z2"]);
  });
});

describe("MoCo-v3's loss", () => {
  for (const dialect of ["portable", "training"] as const)
    it(`equals PyTorch's, with its gradients (${dialect})`, async () => {
      for (const { temperature, q1, q2, k1, k2, loss, grad1, grad2 } of reference.mocov3) {
        const out = await on(mocov3Loss(dialect, temperature), { q1, q2, k1, k2 } as Rows, dialect);
        close(out.loss!.data, [loss]);
        close(out["grad q1"]!.data, grad1!.data);
        close(out["grad q2"]!.data, grad2!.data);
        for (const key of ["grad k1", "grad k2"]) assert.ok(out[key]!.data.every((v) => Number(v) === 0));
      }
    });
  it("is 4τ·log(1 + (B − 1)e^(−1/τ)) where views agree and images are orthogonal", async () => {
    const out = await on(mocov3Loss("training", 0.5), { q1: same, q2: same, k1: same, k2: same });
    close(out.loss!.data, [2 * Math.log(1 + 3 * Math.exp(-2))]);
    close(out.positive!.data, [1]);
    close(out.top1!.data, [1]);
  });
  it("is 4τ·log B where all images are one", async () => {
    const one = unit(4, 6, () => 2);
    close((await on(mocov3Loss("training", 0.5), { q1: one, q2: one, k1: one, k2: one })).loss!.data, [
      2 * Math.log(4),
    ]);
  });
  it("on one device of several is the rows' share of the whole", async () => {
    const { q1, k1, temperature } = reference.mocov3[1]! as Rows & { temperature: number };
    const whole = await on(({ q, k }) => ({ ...inBatch(q!, k!, temperature), metrics: {} }), { q: q1!, k: k1! });
    const [n, d] = q1!.shape as [number, number];
    const shares = await Promise.all(
      [0, n / 2].map((offset) => {
        const rows = { shape: [n / 2, d], data: q1!.data.slice(offset * d, (offset + n / 2) * d) };
        return on(({ q, k }) => ({ ...inBatch(q!, k!, temperature, offset), metrics: {} }), { q: rows, k: k1! });
      }),
    );
    close(whole.loss!.data, [shares.reduce((sum, s) => sum + Number(s.loss!.data[0]) / 2, 0)]);
  });
});

describe("the teacher of BYOL and MoCo-v3", () => {
  for (const method of ["byol", "mocov3"] as const)
    it(`has no predictor, starts as the student, and is no parameter (${method})`, () => {
      const step = tinyStep(method, "training");
      assert.ok(step.parameters.every((p) => p.name.startsWith("student.")));
      const taught = step.state.filter((s) => s.name.startsWith("teacher.") && s.init.name === "copy");
      assert.ok(taught.length > 0);
      assert.ok(!taught.some((s) => s.name.includes("predictor")));
    });
  it("moves ever less: its momentum rises to 1 along half a cosine", () => {
    const horizon = { stepsPerEpoch: 10, epochs: 10 };
    const m = (step: number) => scheduled(byol.defaults.momentum, step, horizon);
    close([m(0), m(50), m(100)], [0.996, 0.998, 1], 1e-9);
  });
});
