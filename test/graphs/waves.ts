/** Inputs by formula, for numbers that were computed elsewhere from the same formula. */
import type { GoldenTensor } from "../goldens/case.js";

/** Flat index i ↦ sin(s + 1.3·i + 0.07·i²) */
export const wave = (s: number, shape: number[]): GoldenTensor => ({
  shape,
  data: Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(s + 1.3 * i + 0.07 * i * i)),
});
