/** Dense features: the map of an encoder over whole photographs, and what is like what in them. */
import { correspondenceModel, neighborsModel } from "../graphs/correspondence.js";
import type { Engine } from "../src/engines/index.js";
import { zeros, type Tensor } from "../src/tensor.js";
import type { Features } from "./features.js";

/** The encoder's map [B,D,h,w] of images [B,C,H,W]: its output `map`, or its first one with two spatial axes. */
export async function denseMap(engine: Engine, encoder: Uint8Array, images: Tensor): Promise<Tensor> {
  const session = await engine.session(encoder);
  try {
    const out = await session.run({ [session.inputs[0]!]: images });
    const map = out.map ?? Object.values(out).find((t) => t.shape.length === 4);
    if (map) return map;
    const outputs = Object.entries(out).map(([name, t]) => `${name} [${t.shape.join(",")}]`);
    throw new Error(`Expected an encoder with a map [B,D,h,w] among its outputs but it has ${outputs.join(", ")}.`);
  } finally {
    session.release();
  }
}

/** The places of a map [1,D,h,w] as rows [h·w, D]. */
export function placesOf({ shape, data }: Tensor): Features {
  const [, width, h, w] = shape as [number, number, number, number];
  const length = h * w;
  const rows = new Float32Array(length * width);
  for (let d = 0; d < width; d++) for (let i = 0; i < length; i++) rows[i * width + d] = Number(data[d * length + i]);
  return { data: rows, length, width };
}

/** A place of a that is the nearest of its nearest in b. */
export interface Match {
  from: number;
  to: number;
  similarity: number;
}

/** Mutual nearest places of two maps [1,D,h,w], most alike first. */
export async function mutualMatches(engine: Engine, a: Tensor, b: Tensor): Promise<Match[]> {
  const [width] = a.shape.slice(1) as [number];
  const session = await engine.session(correspondenceModel(width));
  const flat = (t: Tensor): Tensor => ({ ...t, shape: [width, t.data.length / width] });
  const { there, back, similarity } = await session.run({ a: flat(a), b: flat(b) });
  session.release();
  return Array.from(there!.data as BigInt64Array, (to, from) => ({
    from,
    to: Number(to),
    similarity: Number(similarity!.data[from]),
  }))
    .filter(({ from, to }) => Number(back!.data[to]) === from)
    .sort((m, n) => n.similarity - m.similarity);
}

/** For each query row its k nearest rows of the bank by cosine; `self[i]` is left out of query i's (−1: none). */
export async function nearestRows(
  engine: Engine,
  queries: Features,
  bank: Features,
  self: readonly number[],
  k: number,
) {
  const own = zeros("int64", [self.length]);
  self.forEach((row, i) => (own.data[i] = BigInt(row)));
  const matrix = ({ data, length, width }: Features): Tensor => ({
    dtype: "float32",
    shape: [length, width],
    data: data as Float32Array<ArrayBuffer>,
  });
  const session = await engine.session(neighborsModel({ bank: bank.length, width: bank.width, k }));
  const { similarities, neighbors } = await session.run({ queries: matrix(queries), bank: matrix(bank), self: own });
  session.release();
  return self.map((_, i) =>
    Array.from({ length: k }, (_, j) => ({
      index: Number(neighbors!.data[i * k + j]),
      similarity: Number(similarities!.data[i * k + j]),
    })),
  );
}
