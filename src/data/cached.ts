/** Images decoded once: kept in memory, or on disk for the next run as well. */
import { createHash, randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir } from "../cache.js";
import { channelCounts } from "../views.js";
import type { Dataset, Image } from "./dataset.js";

export const cachings = ["memory", "disk", "none"] as const;
export type Caching = (typeof cachings)[number];

export interface CacheOptions {
  /** Bytes kept at most; default 2 GiB in memory, 20 GiB on disk. What comes later is decoded anew each time. */
  limit?: number;
  /** Folder of the disk cache; default the user's. */
  folder?: string;
}

/** The same dataset, its images kept where `how` says. */
export async function cached(data: Dataset, how: Caching, options: CacheOptions = {}): Promise<Dataset> {
  switch (how) {
    case "none":
      return data;
    case "memory":
      return { ...data, image: inMemory(data, options) };
    case "disk":
      return data.source ? { ...data, image: await onDisk(data, data.source, options) } : data;
    default:
      return how satisfies never;
  }
}

function inMemory(data: Dataset, { limit = 2 * 1024 ** 3 }: CacheOptions): Dataset["image"] {
  const kept = new Map<number, Image>();
  let bytes = 0;
  return async (i) => {
    const known = kept.get(i);
    if (known) return known;
    const image = await data.image(i);
    if (bytes + image.data.length <= limit && !kept.has(i)) {
      kept.set(i, image);
      bytes += image.data.length;
    }
    return image;
  };
}

/**
 * One file an image, named by the hash of what the image was decoded from: width and height as uint32, then the planes. Files are
 * written aside and renamed, so a killed process leaves only what the next one sweeps away.
 */
async function onDisk(
  data: Dataset,
  source: NonNullable<Dataset["source"]>,
  { limit = 20 * 1024 ** 3, folder = cacheDir("images") }: CacheOptions,
): Promise<Dataset["image"]> {
  await mkdir(folder, { recursive: true });
  let bytes = await swept(folder, limit);
  let broken = false;
  return async (i) => {
    const file = join(
      folder,
      createHash("sha1")
        .update(await source(i))
        .digest("hex"),
    );
    const known = await readFile(file).then(unpacked, () => undefined);
    if (known) return known;
    const image = await data.image(i);
    const length = 8 + image.data.length;
    if (broken || bytes + length > limit) return image;
    bytes += length;
    // a cache that cannot be written (a full disk) is no reason to stop
    await written(file, image).catch(() => (broken = true));
    return image;
  };
}

async function written(file: string, { width, height, data }: Image): Promise<void> {
  const head = new Uint8Array(Uint32Array.of(width, height).buffer);
  const aside = `${file}.${process.pid}-${randomBytes(4).toString("hex")}.writing`;
  try {
    await writeFile(aside, [head, data]);
    await rename(aside, file);
  } catch (error) {
    await rm(aside, { force: true });
    throw error;
  }
}

/** The image of a file; undefined where it is not whole. */
function unpacked(bytes: Buffer): Image | undefined {
  if (bytes.length < 8) return undefined;
  const [width, height] = [bytes.readUInt32LE(0), bytes.readUInt32LE(4)];
  const whole = channelCounts.some((c) => bytes.length === 8 + c * width * height);
  return whole ? { width, height, data: bytes.subarray(8) } : undefined;
}

/** An hour: nobody writes one image for so long. */
const forgotten = 3_600_000;

/** Removes what killed processes were writing and, above nine tenths of the limit, the oldest files; the bytes that stay. */
async function swept(folder: string, limit: number): Promise<number> {
  const files = await Promise.all(
    (await readdir(folder)).map(async (name) => {
      const found = await stat(join(folder, name)).catch(() => undefined);
      return { name, size: found?.size ?? 0, time: found?.mtimeMs ?? 0 };
    }),
  );
  const remove = (name: string): Promise<void> => rm(join(folder, name), { force: true });
  let bytes = 0;
  for (const { name, size, time } of files.sort((a, b) => b.time - a.time)) {
    if (name.endsWith(".writing")) {
      if (Date.now() - time > forgotten) await remove(name);
    } else if (bytes + size > 0.9 * limit) await remove(name);
    else bytes += size;
  }
  return bytes;
}
