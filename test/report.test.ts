import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readBooks, reopenBooks, type Books } from "../cli/books.js";
import { chart, smoothed, ticks, type Point } from "../cli/report/chart.js";
import { comparison, report } from "../cli/report/page.js";
import { inColour, noPictures } from "../cli/report/pictures.js";
import { resolveRecipe } from "../cli/recipes/schema.js";
import { recipes } from "../cli/recipes/index.js";
import { principalComponents } from "../evaluators/principal.js";
import { random } from "../src/random.js";
import { tensor } from "../src/tensor.js";

describe("charts", () => {
  it("have round ticks inside their range", () => {
    assert.deepEqual(ticks(0, 10), [0, 2, 4, 6, 8, 10]);
    assert.deepEqual(ticks(47.2, 56.4), [48, 50, 52, 54, 56]);
    assert.deepEqual(ticks(-0.03, 0.11), [0, 0.05, 0.1]);
  });
  it("smooth a straight line into itself", () => {
    const straight = Array.from({ length: 100 }, (_, i): Point => [i, 3 * i - 7]);
    smoothed(straight).forEach(([x, y], i) => assert.ok(x === i && Math.abs(y - straight[i]![1]) < 1e-9));
  });
  it("leave out what is not a number, and draw nothing of a single point", () => {
    const one = (points: Point[]) => chart({ title: "t", x: "x", series: [{ label: "a", points }] });
    assert.equal(one([[0, 1]]), "");
    assert.doesNotMatch(one([[0, 1], [1, NaN], [2, 3], [3, Infinity]]), /NaN|Infinity/); // prettier-ignore
  });
});

describe("principal components", () => {
  const [length, width] = [40, 9];
  const r = random(1, "principal");
  /** Rows of rank 3. */
  const rows = ((): Float32Array => {
    const draw = (n: number) => Array.from({ length: n }, () => r.normal());
    const [a, b] = [draw(3 * length), draw(3 * width)];
    return Float32Array.from({ length: length * width }, (_, at) => {
      const [i, d] = [Math.floor(at / width), at % width];
      return 5 + [0, 1, 2].reduce((s, c) => s + (3 - c) * a[3 * i + c]! * b[width * c + d]!, 0);
    });
  })();
  const distance = (data: Float32Array, w: number, i: number, j: number): number =>
    Math.hypot(...Array.from({ length: w }, (_, d) => data[i * w + d]! - data[j * w + d]!));

  it("of rows of rank three keep every distance, uncorrelated, the widest first", () => {
    const { data } = principalComponents({ data: rows, length, width }, 3);
    for (let i = 0; i < length; i++)
      for (let j = 0; j < i; j++) {
        const [own, whole] = [distance(data, 3, i, j), distance(rows, width, i, j)];
        assert.ok(Math.abs(own - whole) < 1e-3 * (1 + whole), `${i}, ${j}: ${own}, ${whole}`);
      }
    const product = (a: number, b: number): number =>
      Array.from({ length }, (_, i) => data[3 * i + a]! * data[3 * i + b]!).reduce((s, v) => s + v, 0);
    assert.ok(product(0, 0) > product(1, 1) && product(1, 1) > product(2, 2));
    for (const [a, b] of [
      [0, 1],
      [0, 2],
      [1, 2],
    ] as const)
      // prettier-ignore
      assert.ok(Math.abs(product(a, b)) < 1e-2 * product(2, 2), `${a}, ${b}`);
  });
  it("colour equal places alike", () => {
    const map = tensor(
      "float32",
      [2, 4, 1, 3],
      Array.from({ length: 24 }, (_, at) => [7, -1, 2][at % 3]! * (1 + (Math.floor(at / 3) % 4))),
    );
    const [first, second] = inColour(map);
    assert.deepEqual(first!.data, second!.data);
    assert.equal(new Set(first!.data.subarray(0, 3)).size, 3);
  });
});

const books: Books = {
  lives: [{ start: 0, engine: "training", threads: 2, versions: { diptych: "0" }, pixels: { top1: 40, se: 1 } }],
  steps: [1, 2, 3].map((step) => ({ step, epoch: 0, loss: 4 - step, lr: 0.1, stepMs: 5, waitMs: 0 })),
  scores: [0, 1].map((epoch) => ({ epoch, panel: { std: 0.5, effectiveRank: 3, width: 8 }, knn: { top1: 50, se: 2 } })),
};
const run = { name: "<b>&", recipe: resolveRecipe(recipes.sample.recipe), books };

describe("a report", () => {
  it("shows names as they are, not as markup", () => {
    const page = report(run, noPictures);
    assert.ok(page.includes("<h1>&#60;b&#62;&#38;</h1>") && !page.includes("<b>&<"));
  });
  it("leaves out curves that stand still, and pictures that are not there", () => {
    const page = report(run, noPictures);
    assert.ok(!page.includes("<figcaption>lr</figcaption>") && !page.includes("Nearest neighbours"));
    assert.ok(page.includes("<figcaption>loss</figcaption>"));
  });
  it("of several runs draws one line of each", () => {
    assert.equal(
      comparison([run, run, run])
        .match(/<figcaption>loss.*?<\/figure>/s)![0]
        .match(/<polyline/g)!.length,
      3,
    );
  });
});

describe("the books of a run", () => {
  it("are cut off where it goes on, with what a killed process had half written", async () => {
    const folder = mkdtempSync(join(tmpdir(), "books-"));
    const file = join(folder, "metrics.jsonl");
    const rows = [
      { life: books.lives[0] },
      { epoch: 0, std: 0.5, effectiveRank: 3, width: 8 },
      ...books.steps,
      { epoch: 1, std: 0.6, effectiveRank: 4, width: 8 },
    ].map((row) => JSON.stringify(row));
    writeFileSync(file, `${rows.join("\n")}\n{"step":4,"lo`);
    const all = await readBooks(file);
    assert.deepEqual(
      [all.lives.length, all.steps.map((s) => s.step), all.scores.map((s) => s.epoch)],
      [1, [1, 2, 3], [0, 1]],
    );
    const kept = await reopenBooks(file, 2);
    assert.deepEqual([kept.steps.length, kept.scores.length], [2, 1]);
    assert.equal(readFileSync(file, "utf8"), `${rows.slice(0, 4).join("\n")}\n`);
    await reopenBooks(file, 0);
    assert.equal(readFileSync(file, "utf8"), "");
    rmSync(folder, { recursive: true });
  });
});
