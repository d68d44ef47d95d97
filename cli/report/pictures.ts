/** The pictures of a report: nearest neighbours by the encoder's features, and its dense maps in colour. */
import {
  extractFeatures,
  imageBatches,
  normalizeRows,
  type Features,
  type Preprocessing,
} from "../../evaluators/features.js";
import { principalComponents } from "../../evaluators/principal.js";
import { encodeJpeg, encodePng } from "../../src/data/decode.js";
import { limited, subset, type Dataset, type Image } from "../../src/data/index.js";
import type { Engine, Session } from "../../src/engines/index.js";
import type { Tensor } from "../../src/tensor.js";

export interface Thumbnail {
  /** A data: address. */
  image: string;
  name: string;
  /** Whether it has the query's class, where there are labels. */
  same?: boolean;
}
export interface Pictures {
  neighbours: { query: Thumbnail; nearest: Thumbnail[] }[];
  dense: { image: string; name: string; components: string }[];
}
export const noPictures: Pictures = { neighbours: [], dense: [] };

/** Images in which neighbours are searched. */
export const searched = 2000;
/** Photographs shown, neighbours of each, pixels of a thumbnail, least cells a side of a dense map. */
const [shown, near, thumbnail, cells] = [6, 5, 128, 12];

export async function pictures(
  engine: Engine,
  encoder: Uint8Array,
  p: Preprocessing,
  data: Dataset,
): Promise<Pictures> {
  const bank = limited(data, searched);
  const queries = Array.from({ length: Math.min(shown, bank.length) }, (_, i) =>
    Math.floor(((i + 0.5) * bank.length) / Math.min(shown, bank.length)),
  );
  return {
    neighbours: await neighbours(engine, encoder, p, bank, queries),
    dense: await denseMaps(engine, encoder, p, subset(bank, queries)),
  };
}

const uri = (type: string, bytes: Buffer): string => `data:image/${type};base64,${bytes.toString("base64")}`;

async function neighbours(engine: Engine, encoder: Uint8Array, p: Preprocessing, bank: Dataset, queries: number[]) {
  const features = normalizeRows(await extractFeatures(engine, encoder, imageBatches(engine, bank, p), bank.length));
  const picture = async (i: number, of?: number): Promise<Thumbnail> => ({
    image: uri("jpeg", await encodeJpeg(await bank.image(i), thumbnail)),
    name: bank.key(i),
    ...(bank.labels && of !== undefined && { same: bank.labels[i] === bank.labels[of] }),
  });
  return Promise.all(
    queries.map(async (q) => ({
      query: await picture(q),
      nearest: await Promise.all(nearest(features, q).map((i) => picture(i, q))),
    })),
  );
}

/** The rows most alike row q, itself left out. */
function nearest({ data, length, width }: Features, q: number): number[] {
  const row = (i: number) => data.subarray(i * width, (i + 1) * width);
  const own = row(q);
  const alike = Array.from({ length }, (_, i) => row(i).reduce((s, v, d) => s + v * own[d]!, 0));
  return [...alike.keys()]
    .filter((i) => i !== q)
    .sort((a, b) => alike[b]! - alike[a]!)
    .slice(0, near);
}

/** Maps of larger images where the encoder takes them and its own size gives few cells. */
async function denseMaps(
  engine: Engine,
  encoder: Uint8Array,
  p: Preprocessing,
  data: Dataset,
): Promise<Pictures["dense"]> {
  const session = await engine.session(encoder);
  try {
    if (!session.outputs.includes("map")) return [];
    let [images, map] = await mapped(engine, session, p, data);
    const enlarged = Math.ceil(cells / map.shape[2]!);
    if (enlarged > 1) {
      const larger = { ...p, size: p.size * enlarged, resize: p.resize * enlarged };
      // a network of one size refuses; its own map is shown
      [images, map] = await mapped(engine, session, larger, data).catch(() => [images, map] as const);
    }
    const coloured = inColour(map);
    return await Promise.all(
      coloured.map(async (components, i) => ({
        image: uri("jpeg", await encodeJpeg(photograph(images, i), thumbnail)),
        name: data.key(i),
        components: uri("png", await encodePng(components)),
      })),
    );
  } finally {
    session.release();
  }
}

async function mapped(
  engine: Engine,
  session: Session,
  p: Preprocessing,
  data: Dataset,
): Promise<[images: Tensor, map: Tensor]> {
  let out: [Tensor, Tensor] | undefined;
  await imageBatches(
    engine,
    data,
    p,
  )(async (_, images) => {
    const { map } = await session.run({ [session.inputs[0]!]: images }, ["map"]);
    out = [await images.read(), map!];
  });
  return out!;
}

/** Image i of a batch [B,C,S,S] in 0–1. */
function photograph({ shape, data }: Tensor, i: number): Image {
  const [, channels, height, width] = shape as [number, number, number, number];
  const n = channels * height * width;
  return { width, height, data: Uint8Array.from({ length: n }, (_, k) => Math.round(255 * Number(data[i * n + k]))) };
}

/** Maps [B,D,h,w] by their three leading components over all images, each stretched between its 2nd and 98th percentile. */
export function inColour({ shape, data }: Tensor): Image[] {
  const [count, depth, height, width] = shape as [number, number, number, number];
  const area = height * width;
  const rows = new Float32Array(count * area * depth);
  for (let b = 0; b < count; b++)
    for (let d = 0; d < depth; d++)
      for (let at = 0; at < area; at++) rows[(b * area + at) * depth + d] = Number(data[(b * depth + d) * area + at]);
  const { data: components } = principalComponents({ data: rows, length: count * area, width: depth }, 3);
  const ranges = [0, 1, 2].map((c) => {
    const sorted = components.filter((_, i) => i % 3 === c).sort();
    const at = (share: number): number => sorted[Math.round(share * (sorted.length - 1))]!;
    return [at(0.02), at(0.98)] as const;
  });
  return Array.from({ length: count }, (_, b) => {
    const planes = new Uint8Array(3 * area);
    for (let c = 0; c < 3; c++)
      for (let at = 0; at < area; at++) {
        const [low, high] = ranges[c]!;
        const share = (components[(b * area + at) * 3 + c]! - low) / (high - low || 1);
        planes[c * area + at] = Math.round(255 * Math.min(1, Math.max(0, share)));
      }
    return { width, height, data: planes };
  });
}
