/** report.html: a run on one page. Pure: books and pictures in, text out. */
import type { Books, Score, Top1 } from "../books.js";
import type { Recipe } from "../recipes/schema.js";
import { chart, smoothed, type Chart, type Point } from "./chart.js";
import { escaped } from "../../src/markup.js";
import { page, table } from "./html.js";
import type { Pictures } from "./pictures.js";

export interface Run {
  name: string;
  recipe: Recipe;
  books: Books;
}

const top1 = ({ top1, se }: Top1): string => `${top1.toFixed(2)} ± ${se.toFixed(2)}`;
const judgedIn = (books: Books): Top1[] => books.scores.flatMap((s) => s.knn ?? []);
const pixelsIn = (books: Books): Top1 | undefined => books.lives.findLast((l) => l.pixels)?.pixels;
const line = (books: Books, key: string): Point[] => books.steps.map((row) => [row.step, row[key]!] as const);
const byEpoch = (scores: readonly Score[], value: (s: Score) => number | undefined): Point[] =>
  scores.flatMap((s) => {
    const v = value(s);
    return v === undefined ? [] : [[s.epoch, v] as const];
  });

/** What steps report and no chart of its own shows. */
const uncharted = new Set(["step", "epoch", "loss", "stepMs", "waitMs"]);

/** Every curve of a run: loss, kNN, collapse panel, then what else its steps reported, as far as it changes. */
export function charts({ books: b }: Run): Chart[] {
  const pixels = pixelsIn(b);
  const mark = pixels && { label: `raw pixels ${pixels.top1.toFixed(2)}`, y: pixels.top1 };
  const changing = Object.keys(b.steps[0] ?? {}).filter(
    (key) => !uncharted.has(key) && b.steps.some((row) => row[key] !== b.steps[0]![key]),
  );
  const bySteps = (key: string): Chart => {
    const points = line(b, key);
    const pale = { label: "each step", points, pale: true };
    return { title: key, x: "step", series: [pale, { label: "mean", points: smoothed(points) }] };
  };
  const epochs = (title: string, value: (s: Score) => number | undefined): Chart => ({
    title,
    x: "epoch",
    series: [{ label: title, points: byEpoch(b.scores, value) }],
  });
  return [
    bySteps("loss"),
    { ...epochs("kNN top1, %", (s) => s.knn?.top1), mark },
    epochs("feature spread (1: spread out, 0: collapsed)", (s) => s.panel.std),
    epochs("effective rank of the features", (s) => s.panel.effectiveRank),
    ...changing.map(bySteps),
  ];
}

function cards({ books: b, recipe }: Run): string {
  const judged = judgedIn(b);
  const pixels = pixelsIn(b);
  const [first, last] = [b.steps[0], b.steps.at(-1)];
  const half = b.steps.slice(b.steps.length >> 1).map((s) => s.stepMs! + s.waitMs!);
  const pace = (1000 * recipe.accumulate * recipe.batchSize * half.length) / half.reduce((x, y) => x + y, 0);
  const panel = b.scores.at(-1)?.panel;
  const entries: [label: string, value: string][] = [];
  if (judged.length) entries.push([`kNN top1, from ${judged[0]!.top1.toFixed(2)} at the start`, top1(judged.at(-1)!)]);
  if (pixels) entries.push(["kNN top1 of raw pixels", top1(pixels)]);
  if (first && last) entries.push([`loss, from ${first.loss!.toFixed(3)}`, last.loss!.toFixed(3)]);
  if (panel) entries.push([`effective rank of ${panel.width}`, panel.effectiveRank.toFixed(1)]);
  if (last) entries.push([`steps, ${last.epoch! + 1} of ${recipe.epochs} epochs`, String(last.step)]);
  if (Number.isFinite(pace)) entries.push(["images a second", pace.toFixed(0)]);
  return `<div class="cards">${entries.map(([label, value]) => `<div class="card"><b>${escaped(value)}</b><span>${escaped(label)}</span></div>`).join("")}</div>`;
}

function strips({ neighbours }: Pictures): string {
  if (neighbours.length === 0) return "";
  const labelled = neighbours.some((s) => s.nearest.some((n) => n.same !== undefined));
  const rows = neighbours.map(
    ({ query, nearest }) =>
      `<div class="strip">${[query, ...nearest]
        .map(
          ({ image, name, same }) =>
            `<figure${same === undefined ? "" : ` class="${same ? "same" : "other"}"`}><img src="${image}" alt="${escaped(name)}"><figcaption title="${escaped(name)}">${escaped(name)}</figcaption></figure>`,
        )
        .join("")}</div>`,
  );
  return `<h2>Nearest neighbours</h2><p class="soft">Photographs (left) and the five whose features are nearest${labelled ? "; green: of the same class" : ""}.</p>${rows.join("")}`;
}

function dense({ dense: pairs }: Pictures): string {
  if (pairs.length === 0) return "";
  const figures = pairs.map(
    (p) => `<div><img src="${p.image}" alt="${escaped(p.name)}"><img src="${p.components}" alt="components"></div>`,
  );
  return `<h2>Dense features</h2><p class="soft">The first three principal components of the encoder's map over these photographs, as red, green and blue: equal colours, equal features.</p><div class="dense">${figures.join("")}</div>`;
}

/** The page. */
export function report(run: Run, pictures: Pictures): string {
  const { name, recipe, books: b } = run;
  const lives = b.lives.map((l) => {
    const versions = Object.entries(l.versions).map(([what, version]) => `${what} ${version}`);
    return `From step ${l.start}: ${l.engine} engine, ${l.threads} threads, ${versions.join(", ")}`;
  });
  const rows = b.scores.map((s) => [
    String(s.epoch),
    s.knn ? top1(s.knn) : "–",
    s.panel.std.toFixed(3),
    s.panel.effectiveRank.toFixed(1),
  ]);
  return page(
    name,
    `<h1>${escaped(name)}</h1><p class="soft">${escaped(recipe.summary)}</p>
${cards(run)}
<div class="charts">${charts(run).map(chart).join("\n")}</div>
${strips(pictures)}
${dense(pictures)}
<h2>Scores</h2>${table(["epoch", "kNN top1", "feature spread", "effective rank"], rows)}
<details><summary>Recipe</summary><pre>${escaped(JSON.stringify(recipe, null, 2))}</pre></details>
<h2>Versions</h2>${lives.map((l) => `<p class="soft">${escaped(l)}</p>`).join("")}`,
  );
}

/** Several runs: a table, and their curves over one another. */
export function comparison(runs: readonly Run[]): string {
  const titles = [...new Set(runs.flatMap((run) => charts(run).map((c) => c.title)))];
  const together = titles.map((title): Chart => {
    const own = runs.flatMap((run) => {
      const found = charts(run).find((c) => c.title === title);
      return found ? [{ run, x: found.x, points: found.series.at(-1)!.points }] : [];
    });
    return { title, x: own[0]!.x, series: own.map(({ run, points }) => ({ label: run.name, points })) };
  });
  return page(
    "Comparison",
    `<h1>${runs.length} runs</h1>${table(comparedColumns, runs.map(compared))}<p></p><div class="charts">${together.map(chart).join("\n")}</div>`,
  );
}

export const comparedColumns = [
  "run",
  "method",
  "backbone",
  "epochs",
  "steps",
  "loss",
  "kNN top1",
  "at the start",
  "raw pixels",
];

/** A run's row in the table. */
export function compared({ name, recipe, books: b }: Run): string[] {
  const judged = judgedIn(b);
  const pixels = pixelsIn(b);
  const score = (v: Top1 | undefined): string => (v ? top1(v) : "–");
  const last = b.steps.at(-1);
  return [
    name,
    recipe.method.name,
    recipe.backbone.name,
    String(recipe.epochs),
    String(last?.step ?? 0),
    last ? last.loss!.toFixed(4) : "–",
    score(judged.at(-1)),
    score(judged[0]),
    score(pixels),
  ];
}
