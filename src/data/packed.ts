/**
 * A folder of images in one file: safetensors, one entry uint8 [C,h,w] an image, named by its path below the folder. Reading an
 * image decodes nothing, and any reader of safetensors opens the file.
 */
import { open, rename, rm, stat, type FileHandle } from "node:fs/promises";
import { readHeader, type Header } from "../artifacts/safetensors.js";
import { channelCounts, type Channels } from "../views.js";
import { withChannels } from "./channels.js";
import { shrunk } from "./decode.js";
import type { Image } from "./dataset.js";
import type { Store } from "./imageFolder.js";

const ending = ".safetensors";
export const isPacked = (path: string): boolean => path.endsWith(ending);

/** Longest text that follows an entry's name in the header. */
const longestEntry = `:{"dtype":"U8","shape":[3,99999,99999],"data_offsets":[9999999999999,9999999999999]},`.length;

export interface PackOptions {
  shortSide: number;
  /** Channels that are kept; default 3. */
  channels?: Channels;
  /** Called for each image that cannot be read; it is left out. */
  onBroken?: (path: string, reason: string) => void;
  progress?: (done: number, total: number) => void;
}

/** Writes every image of a store into `out`; returns how many, and the bytes of the file. */
export async function pack(store: Store, out: string, { shortSide, channels = 3, onBroken, progress }: PackOptions) {
  if (!isPacked(out)) throw new Error(`Expected a file name that ends in ${ending} but received ${out}.`);
  const { files } = await store.list("");
  const aside = `${out}.writing`;
  const file = await open(aside, "w");
  try {
    // the header comes first but is known last: room for the longest that it can be
    const room = files.reduce((n, path) => n + Buffer.byteLength(JSON.stringify(path)) + longestEntry, 64);
    const start = 8 + 8 * Math.ceil(room / 8);
    const header: Record<string, unknown> = { __metadata__: { shortSide: String(shortSide) } };
    let [at, images] = [0, 0];
    const ahead = 16;
    for (let first = 0; first < files.length; first += ahead) {
      const paths = files.slice(first, first + ahead);
      const decoded = await Promise.allSettled(paths.map((path) => store.image(path, shortSide, channels)));
      for (const [i, result] of decoded.entries()) {
        if (result.status === "rejected") {
          onBroken?.(paths[i]!, (result.reason as Error).message.split("\n")[0]!);
          continue;
        }
        const { width, height, data } = result.value;
        await writeAll(file, data, start + at);
        header[paths[i]!] = { dtype: "U8", shape: [channels, height, width], data_offsets: [at, (at += data.length)] };
        images++;
      }
      progress?.(Math.min(files.length, first + ahead), files.length);
    }
    if (images === 0) throw new Error(`None of ${files.length} images can be read: there is nothing to pack.`);
    const head = Buffer.alloc(start, " ");
    head.writeBigUInt64LE(BigInt(start - 8));
    head.write(JSON.stringify(header), 8);
    await writeAll(file, head, 0);
    await file.sync();
    await file.close();
    await rename(aside, out);
    return { images, bytes: start + at };
  } catch (error) {
    await file.close().catch(() => undefined);
    await rm(aside, { force: true });
    throw error;
  }
}

/** A write may stop short; this goes on until all is written. */
async function writeAll(file: FileHandle, bytes: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < bytes.length;)
    done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
}

/** The images of a packed file. */
export async function packedStore(path: string): Promise<Store> {
  const { entries, start } = await headerOf(path);
  const names = Object.keys(entries);
  return {
    folders: new Set(names.flatMap((name) => (name.includes("/") ? [name.slice(0, name.indexOf("/"))] : []))),
    list: (folder) => {
      const prefix = folder && `${folder}/`;
      const files = names.flatMap((name) => (name.startsWith(prefix) ? [name.slice(prefix.length)] : []));
      return Promise.resolve({ files, others: [] });
    },
    async image(name, shortSide, channels = 3) {
      const { shape, data_offsets: range } = entries[name]!;
      const [, height, width] = shape as [number, number, number];
      const image: Image = { width, height, data: await bytesAt(path, start + range[0], range[1] - range[0]) };
      return withChannels(await shrunk(image, shortSide), channels);
    },
  };
}

async function headerOf(path: string): Promise<{ entries: Header; start: number }> {
  try {
    const { size } = await stat(path);
    const length = Number(Buffer.from(await bytesAt(path, 0, 8)).readBigUInt64LE());
    const { header, start } = readHeader(await bytesAt(path, 0, Math.min(8 + length, size)));
    const entries = { ...header } as Header;
    delete entries.__metadata__;
    const odd = Object.entries(entries).find(
      ([, e]) => e.dtype !== "U8" || e.shape.length !== 3 || !channelCounts.some((c) => c === e.shape[0]),
    );
    if (odd) throw new Error(`"${odd[0]}" is ${odd[1].dtype} [${odd[1].shape}], not an image U8 [C,h,w]`);
    const end = start + Math.max(0, ...Object.values(entries).map((e) => e.data_offsets[1]));
    if (end > size) throw new Error(`it ends at byte ${size}, its images at ${end}`);
    return { entries, start };
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === "ENOENT" ? "there is no such file" : (error as Error).message;
    throw new Error(`${path} is not a packed folder of images: ${why.replace(/\.$/, "")}.`, { cause: error });
  }
}

async function bytesAt(path: string, from: number, length: number): Promise<Uint8Array> {
  const file = await open(path);
  try {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const { bytesRead } = await file.read(bytes, done, length - done, from + done);
      if (bytesRead === 0) throw new Error(`${path} ends at byte ${from + done}, ${from + length} are needed.`);
      done += bytesRead;
    }
    return bytes;
  } finally {
    await file.close();
  }
}
