/** Pictures for people, drawn with sharp: dense features as colours, matches as lines, neighbours as a contact sheet. */
import sharp, { type OverlayOptions } from "sharp";
import { placesOf, type Match } from "../../evaluators/maps.js";
import { principalComponents } from "../../evaluators/principal.js";
import { escaped } from "../../src/markup.js";
import type { Tensor } from "../../src/tensor.js";

const background = "#ffffff";
const gap = 12;

/** A photograph at a height, upright, as PNG. */
async function shown(file: string, height: number): Promise<{ png: Buffer; width: number }> {
  const { data, info } = await sharp(file).autoOrient().resize({ height }).png().toBuffer({ resolveWithObject: true });
  return { png: data, width: info.width };
}
const canvas = (width: number, height: number, parts: OverlayOptions[]): Promise<Buffer> =>
  sharp({ create: { width, height, channels: 3, background } })
    .composite(parts)
    .png()
    .toBuffer();

/**
 * Photographs above their maps: the three principal components of all the maps' places as red, green and blue, between the 2nd and
 * 98th of a hundred. Equal colours, equal features.
 */
export async function featurePicture(files: readonly string[], maps: readonly Tensor[]): Promise<Buffer> {
  const height = 320;
  const places = maps.map((m) => unitRows(placesOf(m)));
  const [width, length] = [places[0]!.width, places.reduce((n, p) => n + p.length, 0)];
  const rows = new Float32Array(length * width);
  places.reduce((at, p) => (rows.set(p.data, at), at + p.data.length), 0);
  const { data } = principalComponents({ data: rows, length, width }, 3);
  const colours = spread(data, 3);
  const parts: OverlayOptions[] = [];
  let [left, at] = [gap, 0];
  for (const [i, file] of files.entries()) {
    const photo = await shown(file, height);
    const [h, w] = maps[i]!.shape.slice(2) as [number, number];
    const raw = colours.subarray(3 * at, 3 * (at + h * w));
    const map = await sharp(raw, { raw: { width: w, height: h, channels: 3 } })
      .resize({ width: photo.width, height, fit: "fill", kernel: "cubic" })
      .png()
      .toBuffer();
    parts.push({ input: photo.png, left, top: gap }, { input: map, left, top: 2 * gap + height });
    left += photo.width + gap;
    at += h * w;
  }
  return canvas(left, 2 * height + 3 * gap, parts);
}

/** A row a photograph: itself, then faint under what each head attends to [1,H,h,w], brightest where most. */
export async function attentionPicture(files: readonly string[], maps: readonly Tensor[]): Promise<Buffer> {
  const height = 200;
  const parts: OverlayOptions[] = [];
  let right = 0;
  for (const [row, file] of files.entries()) {
    const { png, width } = await shown(file, height);
    const top = gap + row * (height + gap);
    const [, heads, h, w] = maps[row]!.shape as [number, number, number, number];
    const faint = await sharp(png).flatten({ background }).grayscale().modulate({ brightness: 0.5 }).png().toBuffer();
    parts.push({ input: png, left: gap, top });
    for (let head = 0; head < heads; head++) {
      const values = (maps[row]!.data as Float32Array).subarray(head * h * w, (head + 1) * h * w);
      const glow = await sharp(glowing(values), { raw: { width: w, height: h, channels: 4 } })
        .resize({ width, height, fit: "fill", kernel: "cubic" })
        .png()
        .toBuffer();
      const left = gap + (head + 1) * (width + gap);
      parts.push({ input: faint, left, top }, { input: glow, left, top });
    }
    right = Math.max(right, gap + (heads + 1) * (width + gap));
  }
  return canvas(right, gap + files.length * (height + gap), parts);
}

/** Orange, from none at the least value to four fifths opaque at the largest. */
function glowing(values: Float32Array): Uint8Array {
  const [least, largest] = [Math.min(...values), Math.max(...values)];
  const opacity = (v: number): number => Math.round((204 * (v - least)) / (largest - least || 1));
  return Uint8Array.from(Array.from(values, (v) => [255, 160, 0, opacity(v)]).flat());
}

function unitRows(f: { data: Float32Array; length: number; width: number }) {
  for (let i = 0; i < f.length; i++) {
    const row = f.data.subarray(i * f.width, (i + 1) * f.width);
    const norm = Math.sqrt(row.reduce((s, v) => s + v * v, 0)) || 1;
    for (let d = 0; d < row.length; d++) row[d]! /= norm;
  }
  return f;
}

/** Columns of [N, k] brought to 0…255 between their 2nd and 98th of a hundred. */
function spread(data: Float32Array, k: number): Uint8Array {
  const n = data.length / k;
  const out = new Uint8Array(data.length);
  for (let c = 0; c < k; c++) {
    const column = Float32Array.from({ length: n }, (_, i) => data[i * k + c]!).sort();
    const [low, high] = [column[Math.floor(0.02 * (n - 1))]!, column[Math.ceil(0.98 * (n - 1))]!];
    for (let i = 0; i < n; i++)
      out[i * k + c] = Math.round(255 * Math.min(1, Math.max(0, (data[i * k + c]! - low) / (high - low || 1))));
  }
  return out;
}

/** Two photographs side by side with lines between the places that match; the colour of a line says where in the first it begins. */
export async function matchPicture(
  a: { file: string; map: Tensor },
  b: { file: string; map: Tensor },
  matches: readonly Match[],
): Promise<Buffer> {
  const height = 440;
  const [left, right] = await Promise.all([shown(a.file, height), shown(b.file, height)]);
  const start = 2 * gap + left.width;
  const width = start + right.width + gap;
  const [ha, wa] = a.map.shape.slice(2) as [number, number];
  const [hb, wb] = b.map.shape.slice(2) as [number, number];
  const centre = (i: number, h: number, w: number, size: number, x0: number) => ({
    x: x0 + (((i % w) + 0.5) / w) * size,
    y: gap + ((Math.floor(i / w) + 0.5) / h) * height,
  });
  const drawn = matches.map(({ from, to }) => {
    const [p, q] = [centre(from, ha, wa, left.width, gap), centre(to, hb, wb, right.width, start)];
    const hue = Math.round(300 * ((p.x - gap) / left.width));
    const colour = `hsl(${hue},85%,${45 + Math.round((20 * (p.y - gap)) / height)}%)`;
    const dot = ({ x, y }: { x: number; y: number }): string =>
      `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="6" fill="${colour}" stroke="#fff" stroke-width="2"/>`;
    return (
      `<line x1="${p.x.toFixed(1)}" y1="${p.y.toFixed(1)}" x2="${q.x.toFixed(1)}" y2="${q.y.toFixed(1)}" stroke="${colour}" stroke-width="2.5" stroke-opacity="0.75"/>` +
      dot(p) +
      dot(q)
    );
  });
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height + 2 * gap}">${drawn.join("")}</svg>`;
  return canvas(width, height + 2 * gap, [
    { input: left.png, left: gap, top: gap },
    { input: right.png, left: start, top: gap },
    { input: Buffer.from(svg), left: 0, top: 0 },
  ]);
}

/** The most alike matches, no two of which begin within `apart` places of one another. */
export function spreadOut(matches: readonly Match[], columns: number, count: number, apart: number): Match[] {
  const chosen: Match[] = [];
  const far = (m: Match, n: Match): boolean =>
    Math.hypot((m.from % columns) - (n.from % columns), Math.floor(m.from / columns) - Math.floor(n.from / columns)) >=
    apart;
  for (const m of matches) if (chosen.length < count && chosen.every((n) => far(m, n))) chosen.push(m);
  return chosen;
}

/** A picture, by path or bytes, and what to call it. */
export interface Shown {
  picture: string | Buffer;
  name: string;
}

export interface Neighbours {
  /** What is asked for, and what is nearest, most alike first. */
  query: Shown;
  found: (Shown & { similarity: number })[];
}

/** One row a query: the picture in a frame, then its neighbours with their cosine. */
export async function neighbourSheet(rows: readonly Neighbours[]): Promise<Buffer> {
  const [tile, caption] = [144, 20];
  const thumb = (file: Shown["picture"]): Promise<Buffer> =>
    sharp(file).autoOrient().resize({ width: tile, height: tile, fit: "cover" }).png().toBuffer();
  const pitch = { x: tile + gap, y: tile + caption + gap };
  const columns = Math.max(...rows.map((r) => r.found.length)) + 1;
  const [width, height] = [columns * pitch.x + 2 * gap, rows.length * pitch.y + gap];
  const parts: OverlayOptions[] = [];
  const words: string[] = [];
  for (const [r, { query, found }] of rows.entries()) {
    const top = gap + r * pitch.y;
    const tiles = [{ ...query, similarity: undefined }, ...found];
    for (const [c, { picture, similarity }] of tiles.entries()) {
      const left = gap + c * pitch.x + (c ? gap : 0);
      parts.push({ input: await thumb(picture), left, top });
      if (similarity === undefined)
        words.push(
          `<rect x="${left - 3}" y="${top - 3}" width="${tile + 6}" height="${tile + 6}" fill="none" stroke="#d9480f" stroke-width="4" rx="3"/>`,
        );
      const label = similarity === undefined ? "query" : similarity.toFixed(3);
      words.push(`<text x="${left + tile / 2}" y="${top + tile + 15}" text-anchor="middle">${label}</text>`);
    }
  }
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="13" fill="#333">${words.join("")}</svg>`;
  return canvas(width, height, [...parts, { input: Buffer.from(svg), left: 0, top: 0 }]);
}

/** The same as a page that holds its pictures. */
export async function neighbourPage(rows: readonly Neighbours[], title: string): Promise<string> {
  const figure = async ({ picture, name }: Shown, note: string): Promise<string> => {
    const jpeg = await sharp(picture).autoOrient().resize({ width: 180, height: 180, fit: "cover" }).jpeg().toBuffer();
    return `<figure><img src="data:image/jpeg;base64,${jpeg.toString("base64")}" alt="${escaped(name)}"><figcaption>${note}<br>${escaped(name)}</figcaption></figure>`;
  };
  const bodies = await Promise.all(
    rows.map(async ({ query, found }) => {
      const figures = [
        await figure(query, "<b>query</b>"),
        ...(await Promise.all(found.map((f) => figure(f, f.similarity.toFixed(3))))),
      ];
      return `<section>${figures.join("")}</section>`;
    }),
  );
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>${escaped(title)}</title><style>
body{font:14px system-ui,sans-serif;margin:2rem;color:#222}section{display:flex;gap:12px;margin-bottom:20px;overflow-x:auto}
figure{margin:0}figure:first-child img{outline:4px solid #d9480f}img{width:150px;height:150px;border-radius:4px;display:block}
figcaption{font-size:12px;color:#555;max-width:150px;overflow-wrap:anywhere;margin-top:6px}</style><h1>${escaped(title)}</h1>${bodies.join("\n")}</html>\n`;
}

export const isHtml = (file: string): boolean => /\.html?$/.test(file);
