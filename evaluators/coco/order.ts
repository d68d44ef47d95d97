/** Stable orders of rows: each function takes the rows in some order and keeps it among equals. */

/** Rows by a small integer, ascending; rows with a negative one are left out. */
export function byKey(rows: Int32Array, key: Int32Array, keys: number): Int32Array {
  const start = starts(rows, key, keys);
  return placed(rows, key, start, new Int32Array(start[keys]!));
}
/** [keys + 1] how many rows have a smaller key. */
function starts(rows: Int32Array, key: Int32Array, keys: number): Int32Array {
  const start = new Int32Array(keys + 1);
  count(rows, key, start);
  for (let k = 0; k < keys; k++) start[k + 1]! += start[k]!;
  return start;
}
function count(rows: Int32Array, key: Int32Array, start: Int32Array): void {
  for (let i = 0; i < rows.length; i++) {
    const k = key[rows[i]!]!;
    if (k >= 0) start[k + 1]!++;
  }
}
/** Puts each row where the next one of its key goes. */
function placed(rows: Int32Array, key: Int32Array, start: Int32Array, ordered: Int32Array): Int32Array {
  for (let i = 0; i < rows.length; i++) {
    const k = key[rows[i]!]!;
    if (k >= 0) ordered[start[k]!++] = rows[i]!;
  }
  return ordered;
}

/** Rows by score, descending; NaN last. Sorts the bits of −score, made to ascend as unsigned integers, sixteen at a time. */
export function byScore(rows: Int32Array, score: Float64Array): Int32Array {
  const n = score.length;
  const negated = new Float64Array(n);
  for (let i = 0; i < n; i++) negated[i] = -score[i]! + 0; // −0 and 0 are equal
  const words = new Uint32Array(negated.buffer); // low, high, low, …
  for (let i = 0; i < n; i++) {
    const last = score[i] !== score[i];
    const flip = words[2 * i + 1]! >>> 31 ? -1 : 0;
    words[2 * i] = last ? -1 : words[2 * i]! ^ flip;
    words[2 * i + 1] = last ? -1 : words[2 * i + 1]! ^ (flip | 0x80000000);
  }
  const digit = new Int32Array(n);
  const sorted = (ordered: Int32Array, d: number): Int32Array => {
    for (let i = 0; i < n; i++) digit[i] = (words[2 * i + (d >> 1)]! >>> (16 * (d & 1))) & 0xffff;
    return byKey(ordered, digit, 1 << 16);
  };
  return [0, 1, 2, 3].reduce(sorted, rows);
}

/** 0, 1, …, n − 1. */
export function allRows(n: number): Int32Array {
  const rows = new Int32Array(n);
  for (let i = 0; i < n; i++) rows[i] = i;
  return rows;
}
