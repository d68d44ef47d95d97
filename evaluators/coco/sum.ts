/** NumPy's sum of contiguous doubles, in its order of additions: eight interleaved partial sums, halves beyond 128. */
export function sum(values: Float64Array, from = 0, to = values.length, r = new Float64Array(8)): number {
  const n = to - from;
  if (n > 128) {
    const half = (n >> 1) - ((n >> 1) % 8);
    return sum(values, from, from + half, r) + sum(values, from + half, to, r);
  }
  let total = 0;
  let i = from;
  if (n >= 8) {
    for (let k = 0; k < 8; k++) r[k] = values[i + k]!;
    for (i = from + 8; i + 8 <= to; i += 8) for (let k = 0; k < 8; k++) r[k]! += values[i + k]!;
    total = r[0]! + r[1]! + (r[2]! + r[3]!) + (r[4]! + r[5]! + (r[6]! + r[7]!));
  }
  for (; i < to; i++) total += values[i]!;
  return total;
}

/** NumPy's mean. */
export const mean = (values: Float64Array): number => sum(values) / values.length;
