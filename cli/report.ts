/** report.html: one self-contained page about a run. */
import type { KnnResult } from "../evaluators/knn.js";
import type { NativeEngine } from "../src/engines/native/index.js";
import type { Recipe } from "./recipes/schema.js";
import type { Score } from "./run.js";

export interface ReportData {
  recipe: Recipe;
  recipeName: string;
  losses: [step: number, loss: number][];
  scores: Score[];
  pixels?: KnnResult;
  engine: NativeEngine;
}

const escaped = (text: string): string => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

/** A line through points as an SVG with its range beside it. */
function curve(
  title: string,
  points: readonly (readonly [number, number])[],
  marks: readonly { label: string; y: number }[] = [],
): string {
  if (points.length < 2) return "";
  const [w, h] = [640, 220];
  const ys = [...points.map((p) => p[1]), ...marks.map((m) => m.y)].filter(Number.isFinite);
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const [x0, x1] = [points[0]![0], points.at(-1)![0]];
  const x = (v: number) => (((v - x0) / (x1 - x0 || 1)) * w).toFixed(1);
  const y = (v: number) => (h - ((v - low) / (high - low || 1)) * h).toFixed(1);
  const every = Math.ceil(points.length / 800);
  const path = points
    .filter((_, i) => i % every === 0)
    .map(([a, b]) => `${x(a)},${y(b)}`)
    .join(" ");
  const lines = marks.map(
    (m) =>
      `<line x1="0" x2="${w}" y1="${y(m.y)}" y2="${y(m.y)}" class="mark"/><text x="4" y="${Number(y(m.y)) - 4}">${escaped(m.label)}</text>`,
  );
  return `<figure><figcaption>${escaped(title)}: ${low.toPrecision(4)} … ${high.toPrecision(4)}</figcaption>
<svg viewBox="-4 -14 ${w + 8} ${h + 22}" role="img"><polyline points="${path}"/>${lines.join("")}</svg></figure>`;
}

/** The page. */
export function report({ recipe, recipeName, losses, scores, pixels, engine }: ReportData): string {
  const judged = scores.flatMap((s) => (s.knn ? [[s.epoch, s.knn.top1] as const] : []));
  const rows = scores.map(
    (s) =>
      `<tr><td>${s.epoch}</td><td>${s.knn ? `${s.knn.top1.toFixed(2)} ± ${s.knn.se.toFixed(2)}` : "–"}</td><td>${s.panel.std.toFixed(3)}</td><td>${s.panel.effectiveRank.toFixed(1)}</td></tr>`,
  );
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>${escaped(recipeName)}</title>
<style>body{font:15px/1.5 system-ui;max-width:720px;margin:2em auto;padding:0 1em;color:#222}svg{width:100%;overflow:visible}polyline{fill:none;stroke:#2563eb;stroke-width:1.5}
.mark{stroke:#999;stroke-dasharray:4}text{font-size:11px;fill:#666}table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #ddd}pre{background:#f6f6f6;padding:1em;overflow:auto}</style>
<h1>${escaped(recipeName)}</h1><p>${escaped(recipe.summary)}. ONNX Runtime ${escaped(engine.version)}, ${engine.name} engine, ${engine.threads} threads.</p>
${curve("loss by step", losses)}
${curve("kNN top1 by epoch", judged, pixels ? [{ label: `raw pixels ${pixels.top1.toFixed(2)}`, y: pixels.top1 }] : [])}
<table><tr><th>epoch</th><th>kNN top1</th><th>feature spread</th><th>effective rank</th></tr>${rows.join("")}</table>
<h2>Recipe</h2><pre>${escaped(JSON.stringify(recipe, null, 2))}</pre></html>
`;
}
