/** Stable orders of rows: each function takes the rows in some order and keeps it among equals. */

/** Rows by a small integer, ascending; rows with a negative one are left out. */
export function byKey(rows: Int32Array, key: ArrayLike<number>, keys: number): Int32Array {
  const start = new Int32Array(keys + 1);
  for (const row of rows) if (key[row]! >= 0) start[key[row]! + 1]!++;
  for (let k = 0; k < keys; k++) start[k + 1]! += start[k]!;
  const ordered = new Int32Array(start[keys]!);
  for (const row of rows) if (key[row]! >= 0) ordered[start[key[row]!]!++] = row;
  return ordered;
}

/** Rows by score, descending; NaN last. Sorts the bits of −score, made to ascend as unsigned integers, sixteen at a time. */
export function byScore(rows: Int32Array, score: Float64Array): Int32Array {
  const negated = score.map((s) => -s + 0); // −0 and 0 are equal
  const words = new Uint32Array(negated.buffer);
  for (let i = 0; i < score.length; i++) {
    const flip = words[2 * i + 1]! >>> 31 && !Number.isNaN(score[i]) ? 0xffffffff : 0;
    words[2 * i]! ^= flip;
    words[2 * i + 1]! ^= flip || 0x80000000;
    if (Number.isNaN(score[i])) words.fill(0xffffffff, 2 * i, 2 * i + 2);
  }
  const digits = new Uint16Array(negated.buffer);
  const digit = new Uint16Array(score.length);
  let ordered = rows;
  for (let d = 0; d < 4; d++) {
    for (let i = 0; i < score.length; i++) digit[i] = digits[4 * i + d]!;
    ordered = byKey(ordered, digit, 1 << 16);
  }
  return ordered;
}

/** 0, 1, …, n − 1. */
export const allRows = (n: number): Int32Array => Int32Array.from({ length: n }, (_, i) => i);
