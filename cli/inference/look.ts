/** What an encoder finds alike: neighbours in a folder, places in two photographs, parts of one. */
import { writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { extractFeatures, imageBatches } from "../../evaluators/features.js";
import { denseMap, mutualMatches, nearestRows, type Match } from "../../evaluators/maps.js";
import { attentionModel, networkIn } from "../../graphs/encoder.js";
import { decode, encodePng } from "../../src/data/decode.js";
import type { Dataset } from "../../src/data/index.js";
import type { Engine } from "../../src/engines/index.js";
import { random } from "../../src/random.js";
import type { Tensor } from "../../src/tensor.js";
import {
  attentionPicture,
  featurePicture,
  isHtml,
  matchPicture,
  neighbourPage,
  neighbourSheet,
  spreadOut,
  type Neighbours,
  type Shown,
} from "./pictures.js";
import { photograph, type Encoder } from "./source.js";

/** The nearest images of a folder to a photograph, or to some of the folder's own; drawn into a PNG or an HTML page. */
export async function neighbors(
  engine: Engine,
  encoder: Encoder,
  data: Dataset,
  o: {
    query?: string;
    count: number;
    k: number;
    seed: number;
    out: string;
    progress(done: number, total: number): void;
  },
) {
  const p = encoder.preprocessing;
  const of = (d: Dataset) =>
    extractFeatures(engine, encoder.bytes, imageBatches(engine, d, p), d.length, (done) => o.progress(done, d.length));
  const bank = await of(data);
  const asked = o.query
    ? [-1]
    : [...random(o.seed, "neighbors").permutation(data.length).subarray(0, Math.min(o.count, data.length))];
  const queries = o.query
    ? await of({ length: 1, key: () => o.query!, image: () => decode(o.query!, 256, p.channels) })
    : gathered(bank, asked);
  const k = Math.min(o.k, data.length - (o.query ? 0 : 1));
  if (k < 1) throw new Error(`Neighbours need at least two images, but the folder has ${data.length}.`);
  const found = await nearestRows(engine, queries, bank, asked, k);
  const shown = async (i: number): Promise<Shown> => ({
    picture: i < 0 ? o.query! : await encodePng(await data.image(i)),
    name: i < 0 ? o.query! : data.key(i),
  });
  const rows: Neighbours[] = await Promise.all(
    asked.map(async (i, row) => ({
      query: await shown(i),
      found: await Promise.all(
        found[row]!.map(async ({ index, similarity }) => ({ ...(await shown(index)), similarity })),
      ),
    })),
  );
  await writeFile(o.out, isHtml(o.out) ? await neighbourPage(rows, "Nearest neighbours") : await neighbourSheet(rows));
  return rows.map((r) => ({
    query: r.query.name,
    neighbors: r.found.map(({ name, similarity }) => ({ path: name, similarity })),
  }));
}

function gathered({ data, width }: { data: Float32Array; width: number }, rows: readonly number[]) {
  const out = new Float32Array(rows.length * width);
  rows.forEach((r, i) => out.set(data.subarray(r * width, (r + 1) * width), i * width));
  return { data: out, length: rows.length, width };
}

/** Places of two photographs that are one another's nearest, drawn as lines; returned in pixels of each photograph's map. */
export async function correspond(
  engine: Engine,
  encoder: Encoder,
  [a, b]: [string, string],
  { side, count, out }: { side: number; count: number; out: string },
): Promise<{ mutual: number; drawn: (Match & { fromCell: number[]; toCell: number[] })[] }> {
  const [one, two] = await Promise.all([a, b].map((f) => photograph(f, encoder, side)));
  const [mapA, mapB] = [
    await denseMap(engine, encoder.bytes, one!.image),
    await denseMap(engine, encoder.bytes, two!.image),
  ];
  const matches = await mutualMatches(engine, mapA, mapB);
  const [columnsA, columnsB] = [mapA.shape[3]!, mapB.shape[3]!];
  const inside = matches.filter((m) => !atBorder(m.from, mapA) && !atBorder(m.to, mapB));
  const drawn = spreadOut(inside, columnsA, count, 1.5);
  await writeFile(out, await matchPicture({ file: a, map: mapA }, { file: b, map: mapB }, drawn));
  const cell = (i: number, columns: number): number[] => [Math.floor(i / columns), i % columns];
  return {
    mutual: matches.length,
    drawn: drawn.map((m) => ({ ...m, fromCell: cell(m.from, columnsA), toCell: cell(m.to, columnsB) })),
  };
}

/** On the outermost ring of a map, where places are alike because they see the padding. */
function atBorder(place: number, { shape }: Tensor): boolean {
  const [h, w] = shape.slice(2) as [number, number];
  const [y, x] = [Math.floor(place / w), place % w];
  return (h > 4 && (y === 0 || y === h - 1)) || (w > 4 && (x === 0 || x === w - 1));
}

/** What each head of the last block looks at in photographs, from the class token. */
export async function attention(
  engine: Engine,
  encoder: Encoder,
  files: readonly string[],
  { side, out }: { side: number; out: string },
) {
  const own = networkIn(encoder.bytes);
  if (!own)
    throw new Error(
      "Attention is drawn of encoders of ours, which carry their network; of this one there is only a graph.",
    );
  const session = await engine.session(attentionModel(own.info, own.tensors));
  const maps: Tensor[] = [];
  try {
    for (const file of files) {
      const { image } = await photograph(file, encoder, side);
      maps.push((await session.run({ image })).attention!);
    }
  } finally {
    session.release();
  }
  await writeFile(out, await attentionPicture(files, maps));
  return files.map((file, i) => ({ image: basename(file), map: maps[i]!.shape.slice(1) }));
}

/** The dense features of photographs as colours, common to all of them. */
export async function features(
  engine: Engine,
  encoder: Encoder,
  files: readonly string[],
  { side, out }: { side: number; out: string },
) {
  const maps: Tensor[] = [];
  for (const file of files)
    maps.push(await denseMap(engine, encoder.bytes, (await photograph(file, encoder, side)).image));
  await writeFile(out, await featurePicture(files, maps));
  return files.map((file, i) => ({ image: basename(file), map: maps[i]!.shape.slice(1) }));
}
