import assert from "node:assert/strict";
import { nearest, type KnnOptions } from "../../evaluators/knn.js";
import type { Labelled } from "../../evaluators/evaluator.js";
import { random } from "../../src/random.js";
import { trainingEngine } from "../engine.js";

/** Noisy points around one centre a class. */
function clouds(n: number, width: number, classes: number, noise: number, seed: number): Labelled {
  const r = random(seed, "clouds");
  const centres = Array.from({ length: classes * width }, () => random(0, "centres").child(classes, width));
  const c = Float64Array.from(centres, (s, i) => s.child(i).normal());
  const labels = Int32Array.from({ length: n }, () => r.integer(classes));
  const data = Float32Array.from({ length: n * width }, (_, i) => {
    const own = labels[Math.floor(i / width)]!;
    return c[own * width + (i % width)]! + noise * r.normal();
  });
  return { features: { data, length: n, width }, labels };
}
const copy = ({ features, labels }: Labelled): Labelled => ({
  features: { ...features, data: features.data.slice() },
  labels,
});

/** Per cent of right answers, in plain loops and float64. */
function naive(bank: Labelled, queries: Labelled | undefined, classes: number, k: number, o: KnnOptions): number {
  const unit = ({ features: { data, width }, labels }: Labelled): number[][] =>
    [...labels].map((_, i) => {
      const row = [...data.subarray(i * width, (i + 1) * width)];
      const norm = Math.hypot(...row);
      return row.map((v) => v / norm);
    });
  const [b, q] = [unit(bank), unit(queries ?? bank)];
  let right = 0;
  q.forEach((x, i) => {
    const similar = b
      .map((y, j) => ({ j, s: y.reduce((sum, v, d) => sum + v * x[d]!, 0) }))
      .filter(({ j }) => queries || j !== i)
      .sort((m, n) => n.s - m.s)
      .slice(0, k);
    const votes = Array.from({ length: classes }, (_, c) => {
      const own = similar.filter(({ j }) => bank.labels[j] === c);
      const weight = own.reduce((sum, { s }) => sum + Math.exp((s - 1) / o.temperature), 0);
      return o.vote === "weighted" ? [weight, 0] : [own.length, weight];
    });
    const best = votes.reduce((held, v, c) => {
      const [a, d] = [votes[held]!, v];
      return d[0]! > a[0]! || (d[0] === a[0] && d[1]! > a[1]!) ? c : held;
    }, 0);
    if (best === (queries ?? bank).labels[i]) right++;
  });
  return (100 * right) / q.length;
}

describe("nearest neighbours", () => {
  const classes = 7;
  const bank = clouds(150, 12, classes, 1.3, 1);
  const queries = clouds(90, 12, classes, 1.3, 2);

  for (const vote of ["weighted", "majority"] as const)
    for (const [how, asked] of [
      ["a test set", queries],
      ["leave-one-out", undefined],
    ] as const)
      it(`equal plain loops: ${vote}, ${how}, several k at once`, async () => {
        const options: KnnOptions = { k: [1, 5, 40], temperature: 0.07, vote };
        const got = await nearest(await trainingEngine(), copy(bank), asked && copy(asked), classes, options);
        const want = options.k.map((k) => naive(bank, asked, classes, k, options));
        assert.deepEqual(
          got.map((a) => a.top1.toFixed(6)),
          want.map((v) => v.toFixed(6)),
        );
        assert.ok(want[1]! > 40 && want[1]! < 95, `a task neither hopeless nor trivial: ${want[1]}`);
      });
  it("do not count an image as its own neighbour", async () => {
    const pair: Labelled = {
      features: { data: Float32Array.of(1, 0, 0, 1), length: 2, width: 2 },
      labels: Int32Array.of(0, 1),
    };
    const [score] = await nearest(await trainingEngine(), pair, undefined, 2, {
      k: [1],
      temperature: 0.07,
      vote: "weighted",
    });
    assert.equal(score!.top1, 0);
  });
  it("refuse more neighbours than the bank has", async () => {
    await assert.rejects(
      nearest(await trainingEngine(), copy(bank), undefined, classes, {
        k: [20, 150],
        temperature: 1,
        vote: "weighted",
      }),
      /^Error: 150 neighbours are more than the bank has: 150 images, each left out of its own vote\. Lower k\.$/,
    );
  });
});
