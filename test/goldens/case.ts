/** Cases of golden's format, and how quantities are compared. */
import type { NativeEngine } from "../../src/engines/native/index.js";
import { sizeOf, tensor, type Tensor } from "../../src/tensor.js";

export interface GoldenTensor {
  shape: number[];
  data: number[];
}
/* eslint-disable @typescript-eslint/no-explicit-any -- the files are JSON of many forms */
export interface GoldenCase {
  name: string;
  kind: string;
  variant: string;
  pixels?: string;
  inputs: Record<string, any>;
  options: Record<string, any>;
  expect: Record<string, any>;
  tolerance: any;
}

/** What a kind computes: a quantity's name → numbers in order, or undefined for a form that is not built yet. */
export type Got = Record<string, ArrayLike<number | bigint> | number>;
export type Kind = (engine: NativeEngine, c: GoldenCase, file: GoldenFile) => Promise<Got | undefined>;
export interface GoldenFile {
  path: string;
  method: string;
  [key: string]: any;
}

export interface Outcome {
  name: string;
  status: "passed" | "failed" | "skipped";
  detail: string[];
  /** What a passed case was judged under, where that needs saying. */
  note?: string;
}

export const numbers = (v: ArrayLike<number | bigint> | number): number[] =>
  typeof v === "number" ? [v] : Array.from(v as ArrayLike<number>, Number);
export const expected = (v: any): number[] => {
  if (typeof v === "number" || typeof v === "boolean") return [Number(v)];
  return Array.isArray(v) ? v.flatMap(expected) : v.data;
};
export const norm = (v: ArrayLike<number>): number => Math.hypot(...Array.from(v));
/** Tensors of one shape as one [count, …]: views from images. */
export function stacked(tensors: readonly GoldenTensor[]): Tensor {
  const data = tensors.flatMap((t) => t.data);
  return tensor("float32", [tensors.length, ...tensors[0]!.shape], data);
}
export const given = (t: GoldenTensor, dtype: "float32" | "int64" = "float32"): Tensor =>
  tensor(dtype, t.shape, t.data);
/** [dim, length] → [length, dim] */
export function flipped(t: GoldenTensor): GoldenTensor {
  const [d, n] = t.shape as [number, number];
  return {
    shape: [n, d],
    data: Array.from({ length: sizeOf(t.shape) }, (_, i) => t.data[(i % d) * n + Math.floor(i / d)]!),
  };
}

/** max|got − expected| ≤ tol·(1 + max|expected|), for every quantity that the case expects; one not computed is a failure. */
export function compared(c: GoldenCase, got: Got, extraTolerance = 0): string[] {
  const complaints: string[] = [];
  for (const [quantity, value] of Object.entries(c.expect)) {
    if (quantity === "float32") continue;
    const want = expected(value);
    if (want === undefined) continue;
    if (!(quantity in got)) {
      complaints.push(`${quantity}: not computed`);
      continue;
    }
    const own = c.tolerance.exact ? 0 : (c.tolerance.float32_exceptions?.[quantity] ?? c.tolerance.float32);
    const tolerance = Math.max(own, extraTolerance);
    complaints.push(...distance(quantity, numbers(got[quantity]!), want, tolerance * (1 + largest(want))));
  }
  return complaints;
}
export const largest = (v: readonly number[]): number => v.reduce((m, x) => Math.max(m, Math.abs(x)), 0);

/** A complaint where the two lists differ by more than `limit` anywhere. */
export function distance(quantity: string, got: readonly number[], want: readonly number[], limit: number): string[] {
  if (got.length !== want.length) return [`${quantity}: ${got.length} values, expected ${want.length}`];
  let worst = 0;
  for (let i = 0; i < want.length; i++)
    if (!(Math.abs(got[i]! - want[i]!) <= Math.abs(got[worst]! - want[worst]!))) worst = i;
  const off = Math.abs(got[worst]! - want[worst]!);
  return off <= limit
    ? []
    : [
        `${quantity}[${worst}]: got ${got[worst]}, expected ${want[worst]}, off by ${off.toExponential(2)}, allowed ${limit.toExponential(2)}`,
      ];
}
