/** Line charts as SVG: numbers in, text out. */
import { escaped } from "../../src/markup.js";

export type Point = readonly [x: number, y: number];
export interface Series {
  label: string;
  points: readonly Point[];
  /** Drawn pale, behind the others: what a smooth line is the mean of. */
  pale?: boolean;
}
export interface Chart {
  title: string;
  x: string;
  series: readonly Series[];
  /** A level to compare with. */
  mark?: { label: string; y: number };
}

const [width, height, left, bottom, top] = [420, 210, 46, 34, 10];
/** At most so many points a line: a few a pixel. */
const resolution = 900;

/** Round steps that cut a range into about n. */
export function ticks(low: number, high: number, n = 5): number[] {
  const raw = (high - low) / n;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = unit * ([1, 2, 5].find((m) => m * unit >= raw) ?? 10);
  const first = Math.ceil(low / step - 1e-9);
  const count = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** Means over a window around each point, a twentieth of the line wide; narrower towards the ends. */
export function smoothed(points: readonly Point[]): Point[] {
  const sums = [0];
  for (const [, y] of points) sums.push(sums.at(-1)! + y);
  const reach = Math.floor(points.length / 40);
  return points.map(([x], i) => {
    const side = Math.min(reach, i, points.length - 1 - i);
    return [x, (sums[i + side + 1]! - sums[i - side]!) / (2 * side + 1)];
  });
}

const short = (v: number): string =>
  v !== 0 && (Math.abs(v) >= 1e5 || Math.abs(v) < 1e-3) ? v.toExponential(0) : String(v);

/** A figure; nothing where no line has two points. */
export function chart({ title, x: xLabel, series, mark }: Chart): string {
  const drawn = series
    .map((s) => ({ ...s, points: s.points.filter((p) => p.every(Number.isFinite)) }))
    .filter((s) => s.points.length > 1);
  if (drawn.length === 0) return "";
  const all = drawn.flatMap((s) => s.points);
  const range = (values: number[]): [number, number] => {
    const [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
    return low === high ? [low - 0.5, high + 0.5] : [low, high];
  };
  const [x0, x1] = range(all.map((p) => p[0]));
  const [low, high] = range([...all.map((p) => p[1]), ...(mark ? [mark.y] : [])]);
  const [y0, y1] = [low - 0.05 * (high - low), high + 0.05 * (high - low)];
  const x = (v: number): string => (left + ((v - x0) / (x1 - x0)) * (width - left - 8)).toFixed(1);
  const y = (v: number): string => (top + ((y1 - v) / (y1 - y0)) * (height - top - bottom)).toFixed(1);

  const grid = ticks(y0, y1).map(
    (v) =>
      `<line class="grid" x1="${left}" x2="${width - 8}" y1="${y(v)}" y2="${y(v)}"/><text class="y" x="${left - 6}" y="${y(v)}">${short(v)}</text>`,
  );
  const steps = ticks(x0, x1, 7).map(
    (v) => `<text class="x" x="${x(v)}" y="${height - bottom + 16}">${short(v)}</text>`,
  );
  const coloured = drawn.filter((s) => !s.pale);
  const lines = drawn.map(({ points, pale, label }) => {
    const every = Math.ceil(points.length / resolution);
    const path = points.filter((_, i) => i % every === 0 || i === points.length - 1).map(([a, b]) => `${x(a)},${y(b)}`);
    const colour = Math.max(
      0,
      coloured.findIndex((s) => s.label === label),
    );
    return `<polyline class="${pale ? "pale" : `line c${colour % 6}`}" points="${path.join(" ")}"/>`;
  });
  const level = mark
    ? `<line class="mark" x1="${left}" x2="${width - 8}" y1="${y(mark.y)}" y2="${y(mark.y)}"/><text class="level" x="${width - 10}" y="${Number(y(mark.y)) - 5}">${escaped(mark.label)}</text>`
    : "";
  const legend =
    coloured.length > 1
      ? `<p class="legend">${coloured.map((s, i) => `<span class="c${i % 6}">${escaped(s.label)}</span>`).join("")}</p>`
      : "";
  return `<figure class="chart"><figcaption>${escaped(title)}</figcaption>
<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escaped(title)}">${grid.join("")}${steps.join("")}<text class="x" x="${(width + left) / 2}" y="${height - 3}">${escaped(xLabel)}</text>${lines.join("")}${level}</svg>${legend}</figure>`;
}
