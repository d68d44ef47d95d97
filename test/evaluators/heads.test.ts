import assert from "node:assert/strict";
import { linear, type LinearOptions } from "../../evaluators/linear.js";
import { fittedLogistic, logistic } from "../../evaluators/logistic.js";
import { lowshot } from "../../evaluators/lowshot.js";
import { openStep, scaled, scoreHeads } from "../../evaluators/heads.js";
import type { Labelled, Split, Subject } from "../../evaluators/evaluator.js";
import { matrix, vector } from "../../evaluators/features.js";
import { sgdHeadsStep } from "../../graphs/probe.js";
import { random } from "../../src/random.js";
import { initialTensors } from "../../src/step.js";
import { tensor, type Tensors } from "../../src/tensor.js";
import { portableEngine, trainingEngine } from "../engine.js";

const [width, classes] = [6, 3];

/** Points whose class is the largest of three noisy linear scores. */
function task(n: number, seed: number, noise = 0.5): Labelled {
  const r = random(seed, "task");
  const w = Array.from({ length: classes * width }, (_, i) => random(9, "truth", i).normal());
  const data = Float32Array.from({ length: n * width }, () => r.normal());
  const labels = Int32Array.from({ length: n }, (_, i) => {
    const scores = [0, 1, 2].map(
      (c) =>
        noise * r.normal() + w.slice(c * width, (c + 1) * width).reduce((s, v, d) => s + v * data[i * width + d]!, 0),
    );
    return scores.indexOf(Math.max(...scores));
  });
  return { features: { data, length: n, width }, labels };
}

/** Softmax and cross-entropy gradient of rows under W [C,D], b [C], in float64. */
function naiveGradient({ features: { data }, labels }: Labelled, rows: readonly number[], w: number[], b: number[]) {
  const dw = w.map(() => 0);
  const db = b.map(() => 0);
  let loss = 0;
  for (const i of rows) {
    const x = data.subarray(i * width, (i + 1) * width);
    const logits = b.map((v, c) => v + x.reduce((s, xv, d) => s + xv * w[c * width + d]!, 0));
    const sum = logits.reduce((s, v) => s + Math.exp(v), 0);
    loss += Math.log(sum) - logits[labels[i]!]!;
    logits.forEach((v, c) => {
      const g = (Math.exp(v) / sum - (labels[i] === c ? 1 : 0)) / rows.length;
      db[c]! += g;
      x.forEach((xv, d) => (dw[c * width + d]! += g * xv));
    });
  }
  return { loss: loss / rows.length, dw, db };
}

const near = (got: ArrayLike<number>, want: readonly number[], within: number, what: string): void =>
  want.forEach((v, i) => assert.ok(Math.abs(got[i]! - v) <= within, `${what}[${i}]: ${got[i]} is not ${v}`));

describe("SGD heads side by side", () => {
  const rows = task(40, 1);
  const lrs = [0.03, 1e30, 1];
  const stepOf = (rates: readonly number[], dialect: "training" | "portable") =>
    sgdHeadsStep({
      dialect,
      rows: 40,
      width,
      classes,
      batchSize: 8,
      lrs: rates,
      momentum: 0.9,
      weightDecay: 1e-3,
      nesterov: false,
      exclude: "none",
    });
  const batches = Array.from({ length: 6 }, (_, t) => [...random(t, "batch").permutation(40).subarray(0, 8)]);

  for (const name of ["training", "portable"] as const)
    it(`follow plain SGD, each at its own rate, past one that diverges (${name})`, async () => {
      const engine = name === "training" ? await trainingEngine() : portableEngine();
      const step = stepOf(lrs, name);
      const start: Tensors = initialTensors(step, 0);
      const session = await openStep(engine, step, 0);
      for (const [t, batch] of batches.entries()) {
        const inputs = {
          features: matrix(rows.features),
          labels: vector(rows.labels),
          batch: tensor("int64", [8], batch),
        };
        const { applied } = await session.step(inputs, { lr: 1 - t / 10 });
        assert.ok(applied);
      }
      const { "heads.weight": weight, "heads.bias": bias } = session.tensors();
      session.release();
      for (const head of [0, 2]) {
        const part = (t: Tensors[string], size: number) =>
          [...(t.data as Float32Array)].slice(head * size, (head + 1) * size);
        const w = part(start["heads.weight"]!, classes * width);
        const b = part(start["heads.bias"]!, classes);
        const [vw, vb] = [w.map(() => 0), b.map(() => 0)];
        for (const [t, batch] of batches.entries()) {
          const { dw, db } = naiveGradient(rows, batch, w, b);
          const lr = lrs[head]! * (1 - t / 10);
          w.forEach((v, i) => (w[i] = v - lr * (vw[i] = 0.9 * vw[i]! + dw[i]! + 1e-3 * v)));
          b.forEach((v, i) => (b[i] = v - lr * (vb[i] = 0.9 * vb[i]! + db[i]! + 1e-3 * v)));
        }
        near(part(weight!, classes * width), w, 2e-5, `head ${head} weight`);
        near(part(bias!, classes), b, 2e-5, `head ${head} bias`);
      }
    });
});

describe("logistic regression", () => {
  const rows = task(120, 3);
  const cs = [0.01, 1, 100];

  for (const name of ["training", "portable"] as const)
    it(`ends where the gradient of every head is zero (${name})`, async () => {
      const engine = name === "training" ? await trainingEngine() : portableEngine();
      const { heads, slope } = await fittedLogistic(engine, rows, classes, cs, { maxSteps: 500, tolerance: 1e-4 });
      assert.ok(slope <= 1e-4, `slope ${slope}`);
      const all = [...rows.labels.keys()];
      cs.forEach((c, l) => {
        const w = [...(heads.weight.data as Float32Array)].slice(l * classes * width, (l + 1) * classes * width);
        const b = [...(heads.bias.data as Float32Array)].slice(l * classes, (l + 1) * classes);
        const { dw, db } = naiveGradient(rows, all, w, b);
        near(
          dw,
          w.map((v) => -v / (c * 120)),
          2e-4,
          `C ${c}: −λW`,
        );
        near(db, [0, 0, 0], 2e-4, `C ${c}: 0`);
      });
    });
  it("gives each head what it finds alone", async () => {
    const engine = await trainingEngine();
    const settings = { maxSteps: 500, tolerance: 1e-5 };
    const { heads } = await fittedLogistic(engine, rows, classes, cs, settings);
    const together = await scoreHeads(engine, heads, rows);
    for (const [l, c] of cs.entries()) {
      const alone = await fittedLogistic(engine, rows, classes, [c], settings);
      const [score] = await scoreHeads(engine, alone.heads, rows);
      assert.ok(Math.abs(score!.loss - together[l]!.loss) < 1e-4, `${score!.loss} is not ${together[l]!.loss}`);
    }
  });
});

describe("scaling", () => {
  it("gives columns of mean 0 and deviation 1 by the first set's statistics", async () => {
    const [a, b] = [task(50, 4), task(20, 5)];
    const [sa, sb] = await scaled(await trainingEngine(), [a, b], "standard");
    for (let d = 0; d < width; d++) {
      const column = ({ features }: Labelled) =>
        Array.from({ length: features.length }, (_, i) => features.data[i * width + d]!);
      const mean = column(a).reduce((s, v) => s + v, 0) / 50;
      const deviation = Math.sqrt(column(a).reduce((s, v) => s + (v - mean) ** 2, 0) / 50);
      near(
        column(sa!),
        column(a).map((v) => (v - mean) / deviation),
        1e-4,
        "first",
      );
      near(
        column(sb!),
        column(b).map((v) => (v - mean) / deviation),
        1e-4,
        "second",
      );
    }
  });
  it("gives rows of length 1", async () => {
    const [unit] = await scaled(await trainingEngine(), [task(10, 6)], "unit");
    for (let i = 0; i < 10; i++)
      assert.ok(Math.abs(Math.hypot(...unit!.features.data.subarray(i * width, (i + 1) * width)) - 1) < 1e-5);
  });
});

describe("judges of frozen features", () => {
  const split = (rows: Labelled): Split => ({
    images: { length: rows.labels.length, key: String, image: () => Promise.reject(new Error("not looked at")) },
    labels: rows.labels,
    features: () => Promise.resolve(rows.features),
    views: (count) => {
      const { data, length, width } = rows.features;
      const all = Float32Array.from({ length: count * data.length }, (_, i) => data[i % data.length]!);
      return Promise.resolve({ data: all, length: count * length, width });
    },
  });
  const subject = async (): Promise<Subject> => ({
    engine: await trainingEngine(),
    classes: ["a", "b", "c"],
    train: split(task(300, 7)),
    test: split(task(300, 8)),
    say: () => undefined,
  });
  const short: LinearOptions = { ...linear.defaults, epochs: 20, batchSize: 64, lr: [1e-5, 1, 1e30] };

  it("choose a rate that learns, and score alike again", async () => {
    const first = await linear.evaluate(await subject(), short);
    assert.equal(first.lr, 1);
    assert.ok(first.top1! > 80, `top1 ${first.top1}`);
    assert.deepEqual(await linear.evaluate(await subject(), short), first);
  });
  it("learn from views in turn: of equal ones what they learn from one", async () => {
    const whole = { ...(await subject()), test: undefined };
    for (const s of [await subject(), whole])
      assert.deepEqual(await linear.evaluate(s, { ...short, views: 3 }), await linear.evaluate(s, short));
    assert.match(linear.protocol({ ...short, views: 3 }), /3 random crops and flips of each image in turn/);
  });
  it("learn from views alone where there are several", async () => {
    const s = await subject();
    const { features: noise } = task(300, 9);
    const blind = { ...s, train: { ...s.train, features: () => Promise.resolve(noise) } };
    const options = { ...short, lr: [1] };
    assert.ok((await linear.evaluate(blind, { ...options, views: 2 })).top1! > 80);
    assert.ok((await linear.evaluate(blind, options)).top1! < 60);
  });
  it("name a score that was chosen on the test set as such", async () => {
    const metrics = await linear.evaluate(await subject(), { ...short, faithful: "best-on-test" });
    assert.deepEqual(Object.keys(metrics), ["bestOnTestTop1", "bestOnTestTop5", "lr", "epoch"]);
    assert.match(linear.protocol({ ...short, faithful: "best-on-test" }), /chosen on the test set itself/);
  });
  it("hold out a fifth where there is no test split", async () => {
    const metrics = await logistic.evaluate(
      { ...(await subject()), test: undefined },
      { ...logistic.defaults, c: [1] },
    );
    assert.ok(metrics.top1! > 75 && metrics.se! > 4, `${metrics.top1} ± ${metrics.se} of 60 images`);
  });
  it("know more from more labels", async () => {
    const metrics = await lowshot.evaluate(await subject(), { ...lowshot.defaults, percent: [50], shots: [1] });
    assert.ok(metrics["top1@50%"]! > metrics["top1@1shot"]! + 5, JSON.stringify(metrics));
    assert.ok(metrics["deviation@1shot"]! > 0);
  });
});
