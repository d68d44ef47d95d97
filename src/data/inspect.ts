/** What is in a folder of images: counts, formats, sizes, copies, and what cannot be read. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { grouped } from "../grouped.js";
import { decode } from "./decode.js";
import { imageFolder, openStore, splitFolder } from "./imageFolder.js";

/** What is read all the same, though not every tool does. */
export type Oddity = "grey" | "cmyk" | "alpha" | "16 bit" | "animated" | "turned by EXIF";

export interface Inspection {
  root: string;
  images: number;
  /** Files with other endings. */
  others: number;
  /** By folder ("." without splits); classes where there are labels. */
  splits: Record<string, { images: number; classes?: Record<string, number> }>;
  /** Folders with images beside the splits, which no run reads. */
  unused: string[];
  formats: Record<string, number>;
  odd: Partial<Record<Oddity, string[]>>;
  /** Pixels, as stored. */
  shortSide: { least: number; median: number; most: number };
  /** Paths of files with equal bytes. */
  duplicates: string[][];
  /** How many of the duplicates lie in both splits. */
  duplicatesAcrossSplits: number;
  unreadable: { file: string; reason: string }[];
}

interface Looked {
  file: string;
  hash: string;
  format?: string;
  shortSide: number;
  odd: Oddity[];
  reason?: string;
}

/** Reads and decodes every image below `root`. */
export async function inspect(root: string, progress?: (done: number, total: number) => void): Promise<Inspection> {
  const { folders, list } = await openStore(root);
  const { files, others } = await list("");
  const looked: Looked[] = [];
  const together = 16;
  for (let first = 0; first < files.length; first += together) {
    looked.push(...(await Promise.all(files.slice(first, first + together).map((file) => look(root, file)))));
    progress?.(looked.length, files.length);
  }
  const names = (["train", "val"] as const).flatMap((split) => splitFolder(folders, split) ?? []);
  const read = looked.filter((l) => l.reason === undefined);
  const sides = read.map((l) => l.shortSide).sort((a, b) => a - b);
  const odd: Inspection["odd"] = {};
  for (const { file, odd: kinds } of read) for (const kind of kinds) (odd[kind] ??= []).push(file);
  const duplicates = [...grouped(looked, (l) => l.hash).values()].flatMap((same) =>
    same.length > 1 ? [same.map((l) => l.file)] : [],
  );
  const splitOf = (file: string): string | undefined => names.find((name) => file.startsWith(`${name}/`));
  return {
    root,
    images: files.length,
    others: others.length,
    splits: await countedSplits(root, names),
    unused: names.includes("")
      ? []
      : [...folders].filter((f) => !names.includes(f) && files.some((p) => p.startsWith(`${f}/`))).sort(),
    formats: Object.fromEntries([...grouped(read, (l) => l.format!)].map(([format, all]) => [format, all.length])),
    odd,
    shortSide: { least: sides[0] ?? 0, median: sides[sides.length >> 1] ?? 0, most: sides.at(-1) ?? 0 },
    duplicates,
    duplicatesAcrossSplits: duplicates.filter((same) => new Set(same.map(splitOf).filter(Boolean)).size > 1).length,
    unreadable: looked.flatMap(({ file, reason }) => (reason === undefined ? [] : [{ file, reason }])),
  };
}

async function look(root: string, file: string): Promise<Looked> {
  let hash = file;
  try {
    const bytes = await readFile(join(root, file));
    hash = createHash("sha256").update(bytes).digest("hex");
    const m = await sharp(bytes, { limitInputPixels: false }).metadata();
    await decode(bytes, 64);
    const kinds: Record<Oddity, boolean> = {
      grey: m.channels < 3,
      cmyk: m.space === "cmyk",
      alpha: m.hasAlpha,
      "16 bit": m.depth === "ushort",
      animated: (m.pages ?? 1) > 1,
      "turned by EXIF": (m.orientation ?? 1) > 1,
    };
    const odd = (Object.keys(kinds) as Oddity[]).filter((k) => kinds[k]);
    return { file, hash, format: m.format, shortSide: Math.min(m.width, m.pageHeight ?? m.height), odd };
  } catch (error) {
    return { file, hash, shortSide: 0, odd: [], reason: (error as Error).message.split("\n")[0]! };
  }
}

async function countedSplits(root: string, names: readonly string[]): Promise<Inspection["splits"]> {
  const splits: Inspection["splits"] = {};
  for (const [i, name] of names.entries()) {
    const d = await imageFolder.open({ root, split: i ? "val" : "train", shortSide: 1 });
    const classes = d!.classes && Object.fromEntries(d!.classes.map((c) => [c, 0]));
    d!.labels?.forEach((label) => classes![d!.classes![label]!]!++);
    splits[name || "."] = { images: d!.length, ...(classes && { classes }) };
  }
  return splits;
}
