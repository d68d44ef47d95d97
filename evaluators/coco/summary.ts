/** The numbers that people quote, and the table in which pycocotools prints them. */
import type { Accumulated } from "./accumulate.js";
import type { Parameters } from "./parameters.js";
import { mean } from "./sum.js";

interface Row {
  kind: "AP" | "AR";
  /** One threshold; the mean of all without. */
  iou?: number;
  area: string;
  maxDets: number;
}

function rowsOf({ iouType, maxDets }: Parameters): Row[] {
  if (iouType === "keypoints") {
    const rows = (kind: Row["kind"]): Row[] =>
      [
        { area: "all" },
        { area: "all", iou: 0.5 },
        { area: "all", iou: 0.75 },
        { area: "medium" },
        { area: "large" },
      ].map((row) => ({ kind, maxDets: 20, ...row }));
    return [...rows("AP"), ...rows("AR")];
  }
  const [first, second, third] = maxDets as [number, number, number];
  const sizes = ["small", "medium", "large"];
  return [
    { kind: "AP", area: "all", maxDets: 100 }, // pycocotools' 100, whatever maxDets are
    { kind: "AP", iou: 0.5, area: "all", maxDets: third },
    { kind: "AP", iou: 0.75, area: "all", maxDets: third },
    ...sizes.map((area): Row => ({ kind: "AP", area, maxDets: third })),
    ...[first, second, third].map((n): Row => ({ kind: "AR", area: "all", maxDets: n })),
    ...sizes.map((area): Row => ({ kind: "AR", area, maxDets: third })),
  ];
}

/** The mean over thresholds, recalls and categories of what a row asks for; −1 where there is nothing. */
export function average(
  { T, R, K, A, M, precision, recall }: Accumulated,
  { thresholds, areas, maxDets }: Parameters,
  row: Row,
  category?: number,
): number {
  const [values, steps] = row.kind === "AP" ? [precision, R] : [recall, 1];
  const a = areas.findIndex(({ name }) => name === row.area);
  const m = maxDets.indexOf(row.maxDets);
  if (a < 0 || m < 0) return -1;
  const kept = new Float64Array(T * steps * K);
  let n = 0;
  for (let t = 0; t < T; t++) {
    if (row.iou !== undefined && thresholds[t] !== row.iou) continue;
    const at = (k: number): number => ((t * steps * K + k) * A + a) * M + m;
    n =
      category === undefined
        ? gather(values, at(0), A * M, steps * K, kept, n)
        : gather(values, at(category), K * A * M, steps, kept, n);
  }
  return n === 0 ? -1 : mean(kept.subarray(0, n));
}

/** Copies those of values[from], values[from + stride], …, `count` of them, that are not −1 to out[at…] and returns where they end. */
function gather(
  values: Float64Array,
  from: number,
  stride: number,
  count: number,
  out: Float64Array,
  at: number,
): number {
  let n = at;
  for (let i = 0; i < count; i++) {
    const value = values[from + i * stride]!;
    if (value > -1) out[n++] = value;
  }
  return n;
}

/** Twelve numbers, of keypoints ten: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl. */
export function summarize(accumulated: Accumulated, parameters: Parameters): Float64Array {
  if (parameters.iouType !== "keypoints" && parameters.maxDets.length < 3)
    throw new Error(`The summary needs three maxDets but received ${parameters.maxDets.join(", ")}.`);
  return Float64Array.from(rowsOf(parameters), (row) => average(accumulated, parameters, row));
}

/** pycocotools' table, a line each. */
export function table(stats: Float64Array, parameters: Parameters): string[] {
  const { thresholds } = parameters;
  const range = `${thresholds[0]!.toFixed(2)}:${thresholds.at(-1)!.toFixed(2)}`;
  return rowsOf(parameters).map(({ kind, iou, area, maxDets }, i) => {
    const title = (kind === "AP" ? "Average Precision" : "Average Recall").padEnd(18);
    const at = `IoU=${(iou?.toFixed(2) ?? range).padEnd(9)} | area=${area.padStart(6)} | maxDets=${String(maxDets).padStart(3)}`;
    return ` ${title} (${kind}) @[ ${at} ] = ${threePlaces(stats[i]!)}`;
  });
}

/** As Python rounds: half a thousandth, which only sixteenths are, to the even digit. */
export function threePlaces(value: number): string {
  const half = Number.isInteger(16 * value) && !Number.isInteger(8 * value);
  return half ? ((2 * Math.round(500 * value)) / 1000).toFixed(3) : value.toFixed(3);
}
