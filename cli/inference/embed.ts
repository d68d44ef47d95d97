/** Embed: the features of every image of a folder, in a file that other programs read. A stopped run goes on where it was. */
import { createHash } from "node:crypto";
import { appendFile, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { imageBatches, type Preprocessing } from "../../evaluators/features.js";
import type { Dataset } from "../../src/data/index.js";
import type { Engine } from "../../src/engines/index.js";
import { sizeOf, type Tensor } from "../../src/tensor.js";
import { endingOf, writers, type Ending } from "./rows.js";

export interface EmbedOptions {
  out: string;
  /** Maps [D,h,w] instead of features [D]. */
  dense: boolean;
  preprocessing: Preprocessing;
  say(line: string): void;
  progress(done: number, total: number): void;
}

export interface Embedded {
  out: string;
  images: number;
  /** Images that could not be read; they have no row. */
  broken: string[];
  shape: number[];
}

/** The rows so far, beside the file: raw float32, and a line an image, "+ key" where it has a row and "- key" where it cannot be read. */
const partials = (out: string) => ({ rows: `${out}.partial`, list: `${out}.partial.txt` });

/** Writes the features of each image that can be read; a run that was stopped is taken up again by the same command. */
export async function embed(engine: Engine, encoder: Uint8Array, data: Dataset, o: EmbedOptions): Promise<Embedded> {
  const ending = endingOf(o.out);
  if (o.dense && ending !== ".npy") throw new Error(`Dense maps are written as .npy, not as ${ending}.`);
  const partial = partials(o.out);
  const header = headerOf(encoder, data, o);
  const done = await taken(o.out, header);
  if (done) o.say(`Going on after ${done} of ${data.length} images.`);

  const broken = new Set<number>();
  const rest = after(data, done, o.preprocessing.channels, (i, reason) => {
    broken.add(i);
    o.say(`${data.key(i + done)} cannot be read and has no row: ${reason}`);
  });
  const session = await engine.session(encoder);
  const output = outputOf(session.outputs, o.dense);
  try {
    await imageBatches(
      engine,
      rest,
      o.preprocessing,
    )(async (start, images) => {
      const { [output]: values } = await session.run({ [session.inputs[0]!]: images }, [output]);
      const rows = o.dense ? values! : pooled(values!);
      const width = sizeOf(rows.shape.slice(1));
      const indices = Array.from({ length: images.shape[0]! }, (_, i) => start + i);
      const kept = indices.flatMap((i, at) => (broken.has(i) ? [] : [rowBytes(rows, at, width)]));
      await appendFile(partial.rows, Buffer.concat(kept));
      const marks = indices.map((i) => `${broken.has(i) ? "-" : "+"} ${data.key(i + done)}\n`);
      await appendFile(
        partial.list,
        (start + done ? "" : `${header}\n${JSON.stringify(rows.shape.slice(1))}\n`) + marks.join(""),
      );
      o.progress(done + start + indices.length, data.length);
    });
  } finally {
    session.release();
  }
  return finished(o.out, ending);
}

/** One line that says what a partial file is of. */
function headerOf(encoder: Uint8Array, data: Dataset, { dense, preprocessing }: EmbedOptions): string {
  const keys = Array.from({ length: data.length }, (_, i) => data.key(i)).join("\n");
  return JSON.stringify({ encoder: digest(encoder), images: digest(Buffer.from(keys)), dense, preprocessing });
}
const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex").slice(0, 16);

async function listed(out: string): Promise<{ header: string; shape: number[]; marks: string[] }> {
  const text = await readFile(partials(out).list, "utf8").catch(() => "");
  const [header = "", shape = "[]", ...marks] = text.slice(0, text.lastIndexOf("\n") + 1).split("\n");
  return { header, shape: JSON.parse(shape || "[]") as number[], marks: marks.filter((m) => m !== "") };
}
const hasRow = (mark: string): boolean => mark.startsWith("+ ");

/** How many images an earlier run of the same has seen; rows that its list does not name are cut off. */
async function taken(out: string, header: string): Promise<number> {
  const partial = partials(out);
  const before = await listed(out);
  if (before.header !== header || before.marks.length === 0) {
    await rm(partial.list, { force: true });
    await writeFile(partial.rows, "");
    return 0;
  }
  await truncate(partial.rows, 4 * sizeOf(before.shape) * before.marks.filter(hasRow).length);
  await writeFile(partial.list, [header, JSON.stringify(before.shape), ...before.marks, ""].join("\n"));
  return before.marks.length;
}

/** The images from `skip` on; one that cannot be read is black, and reported by its place in what is left. */
function after(
  data: Dataset,
  skip: number,
  channels: number,
  unreadable: (i: number, reason: string) => void,
): Dataset {
  return {
    length: data.length - skip,
    key: (i) => data.key(i + skip),
    image: (i) =>
      data.image(i + skip).catch((e: Error) => {
        unreadable(i, e.message.split("\n")[0]!);
        return { width: 1, height: 1, data: new Uint8Array(channels) };
      }),
  };
}

function outputOf(outputs: readonly string[], dense: boolean): string {
  const wanted = dense ? "map" : "features";
  if (outputs.includes(wanted)) return wanted;
  if (dense) throw new Error(`--dense needs an encoder with an output "map"; this one has ${outputs.join(", ")}.`);
  return outputs[0]!;
}

const rowBytes = ({ data }: Tensor, i: number, width: number): Uint8Array =>
  new Uint8Array(data.buffer, data.byteOffset + 4 * i * width, 4 * width);

/** [B,D] as it is; the mean over the places of [B,D,…]. */
function pooled(t: Tensor): Tensor {
  if (t.shape.length === 2) return t;
  const [b, d] = t.shape as [number, number];
  const places = sizeOf(t.shape.slice(2));
  const mean = (i: number): number =>
    (t.data as Float32Array).subarray(i * places, (i + 1) * places).reduce((sum, v) => sum + v, 0) / places;
  return { dtype: "float32", shape: [b, d], data: Float32Array.from({ length: b * d }, (_, i) => mean(i)) };
}

/** The whole file, in its place; the partial ones are removed. */
async function finished(out: string, ending: Ending): Promise<Embedded> {
  const partial = partials(out);
  const { shape, marks } = await listed(out);
  const keys = marks.filter(hasRow).map((m) => m.slice(2));
  if (keys.length === 0) throw new Error(`None of the ${marks.length} images can be read.`);
  const bytes = await readFile(partial.rows);
  const data = new Float32Array(bytes.buffer, bytes.byteOffset, keys.length * sizeOf(shape));
  await writers[ending](out, { keys, shape, data });
  await rm(partial.rows);
  await rm(partial.list);
  return { out, images: keys.length, broken: marks.filter((m) => !hasRow(m)).map((m) => m.slice(2)), shape };
}
