/** Rows of features as files: NumPy, CSV, JSON lines, Parquet. */
import { createWriteStream } from "node:fs";
import { writeFile } from "node:fs/promises";
import { once } from "node:events";
import { extname } from "node:path";
import { unknownName } from "../../src/names.js";
import { sizeOf } from "../../src/tensor.js";

export interface Rows {
  keys: readonly string[];
  /** Shape of one row: [D], or [D,h,w] of dense maps. */
  shape: readonly number[];
  /** All rows, row-major. */
  data: Float32Array;
}

/** A file of rows by its ending. */
export const writers = {
  ".npy": async (file, rows) => {
    await writeFile(file, npy(rows));
    await writeFile(file.replace(/\.npy$/, ".txt"), rows.keys.map((k) => `${k}\n`).join(""));
  },
  ".csv": (file, rows) => {
    const names = Array.from({ length: sizeOf(rows.shape) }, (_, i) => `f${i}`);
    const quoted = (key: string): string => (/[",\n]/.test(key) ? `"${key.replace(/"/g, '""')}"` : key);
    return lines(file, ["path", ...names].join(","), rows, (key, row) => `${quoted(key)},${row.join(",")}`);
  },
  ".jsonl": (file, rows) =>
    lines(file, undefined, rows, (path, row) => JSON.stringify({ path, features: Array.from(row) })),
  ".parquet": async (file, rows) => {
    const { parquetWriteBuffer } = await import("hyparquet-writer");
    const features = rows.keys.map((_, i) => Array.from(rowOf(rows, i)));
    const buffer = parquetWriteBuffer({
      columnData: [
        { name: "path", data: [...rows.keys] },
        { name: "features", data: features },
      ],
      schema: [
        { name: "root", num_children: 2 },
        { name: "path", type: "BYTE_ARRAY", converted_type: "UTF8", repetition_type: "REQUIRED" },
        { name: "features", converted_type: "LIST", num_children: 1, repetition_type: "REQUIRED" },
        { name: "list", num_children: 1, repetition_type: "REPEATED" },
        { name: "element", type: "FLOAT", repetition_type: "REQUIRED" },
      ],
    });
    await writeFile(file, new Uint8Array(buffer));
  },
} satisfies Record<string, (file: string, rows: Rows) => Promise<void>>;
export type Ending = keyof typeof writers;

/** The ending of a file that we can write. */
export function endingOf(file: string): Ending {
  const ending = extname(file);
  if (!(ending in writers)) throw new Error(unknownName("kind of file", ending || file, Object.keys(writers)));
  return ending as Ending;
}

const rowOf = ({ data, shape }: Rows, i: number): Float32Array => {
  const width = sizeOf(shape);
  return data.subarray(i * width, (i + 1) * width);
};

async function lines(
  file: string,
  head: string | undefined,
  rows: Rows,
  line: (key: string, row: Float32Array) => string,
): Promise<void> {
  const out = createWriteStream(file);
  if (head !== undefined) out.write(`${head}\n`);
  for (const [i, key] of rows.keys.entries())
    if (!out.write(`${line(key, rowOf(rows, i))}\n`)) await once(out, "drain");
  out.end();
  await once(out, "finish");
}

/** NumPy's format 1.0: magic, header length, a dict padded to 64 bytes, row-major data. */
function npy({ keys, shape, data }: Rows): Uint8Array {
  const dict = `{'descr': '<f4', 'fortran_order': False, 'shape': (${[keys.length, ...shape].join(", ")}), }`;
  const header = dict.padEnd(Math.ceil((10 + dict.length + 1) / 64) * 64 - 11) + "\n";
  const head = Buffer.concat([
    Buffer.from("\x93NUMPY\x01\x00", "latin1"),
    Buffer.from([header.length & 255, header.length >> 8]),
    Buffer.from(header, "latin1"),
  ]);
  return Buffer.concat([head, Buffer.from(data.buffer, data.byteOffset, data.byteLength)]);
}
