/** A folder of images of any depth. DIR/train and DIR/val|validation|test are splits; the label is the folder below the split. */
import { readdir, stat } from "node:fs/promises";
import { extname, join, resolve } from "node:path";
import type { Channels } from "../views.js";
import { decode, extensions } from "./decode.js";
import { limited, type DataOptions, type Dataset, type DataSource, type Image } from "./dataset.js";
import { isPacked, packedStore } from "./packed.js";

const splits = { train: ["train"], val: ["val", "validation", "test"] } as const;

const bytewise = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Image files below `dir` as sorted paths relative to it (bytewise, so every machine agrees), and how many others there were. */
async function imageFiles(dir: string): Promise<{ files: string[]; others: string[] }> {
  const files: string[] = [];
  const others: string[] = [];
  const walk = async (at: string): Promise<void> => {
    const entries = await readdir(join(dir, at), { withFileTypes: true });
    for (const e of entries) {
      const path = at ? `${at}/${e.name}` : e.name;
      if (e.name.startsWith(".")) continue;
      const directory =
        e.isDirectory() || (e.isSymbolicLink() && (await stat(join(dir, path)).catch(() => undefined))?.isDirectory());
      if (directory) await walk(path);
      else (extensions.includes(extname(e.name).toLowerCase()) ? files : others).push(path);
    }
  };
  await walk("");
  return { files: files.sort(bytewise), others: others.sort(bytewise) };
}

async function readable(root: string): Promise<void> {
  const found = await stat(root).catch((e: NodeJS.ErrnoException) => e);
  if (found instanceof Error)
    throw new Error(
      found.code === "ENOENT" ? `There is no folder ${root}.` : `${root} cannot be read: ${found.message}.`,
    );
  if (!found.isDirectory()) throw new Error(`Expected a folder of images but ${root} is a file.`);
}

const listed = async (dir: string) =>
  imageFiles(dir).catch((e: NodeJS.ErrnoException) => {
    throw new Error(`${e.path ?? dir} cannot be read: ${e.code === "EACCES" ? "permission denied" : e.message}.`, {
      cause: e,
    });
  });

/**
 * Which folder of the root holds a split: "" (all of it) where there is no train folder; undefined where there is, but not this split.
 */
export function splitFolder(folders: ReadonlySet<string>, split: DataOptions["split"]): string | undefined {
  if (folders.has("train")) return splits[split].find((name) => folders.has(name));
  return split === "train" ? "" : undefined;
}

/** Labels from the first folder of each path; none where images lie outside folders or all in one. */
function labelled(files: readonly string[]): { labels: Int32Array; classes: string[] } | undefined {
  const folders = files.map((f) => (f.includes("/") ? f.slice(0, f.indexOf("/")) : undefined));
  const classes = [...new Set(folders)].sort() as string[];
  if (folders.includes(undefined) || classes.length < 2) return undefined;
  const index = new Map(classes.map((c, i) => [c, i]));
  return { labels: Int32Array.from(folders, (f) => index.get(f!)!), classes };
}

/** Where images lie: a folder, or the one file that `data pack` made of it. */
export interface Store {
  /** Folders below the root. */
  folders: ReadonlySet<string>;
  /** Sorted paths below a folder of the root, relative to it: images, and files that are none. */
  list(folder: string): Promise<{ files: string[]; others: string[] }>;
  image(path: string, shortSide: number, channels?: Channels): Promise<Image>;
  /** As Dataset's. */
  source?(path: string, shortSide: number, channels?: Channels): Promise<string>;
}

async function folderStore(root: string): Promise<Store> {
  await readable(root);
  const top = await readdir(root, { withFileTypes: true }).catch(() => []);
  return {
    folders: new Set(top.flatMap((e) => (e.isDirectory() ? [e.name] : []))),
    list: (folder) => listed(join(root, folder)),
    image: (path, shortSide, channels) => decode(join(root, path), shortSide, channels),
    async source(path, shortSide, channels = 3) {
      const { mtimeMs, size } = await stat(join(root, path));
      return [resolve(root, path), mtimeMs, size, shortSide, channels].join("\n");
    },
  };
}

export const openStore = (root: string): Promise<Store> => (isPacked(root) ? packedStore(root) : folderStore(root));

export const imageFolder: DataSource = {
  summary: "A folder of images, of any depth (or the file that data pack makes of it); class folders give labels",
  async open({ root, split, shortSide, channels, limit }): Promise<Dataset | undefined> {
    const store = await openStore(root);
    const folder = splitFolder(store.folders, split);
    if (folder === undefined) return undefined;
    const { files, others } = await store.list(folder);
    if (files.length === 0) {
      const seen = others.length
        ? `${others.length} other files (${others.slice(0, 3).join(", ")}${others.length > 3 ? ", …" : ""})`
        : "nothing";
      throw new Error(`Expected images (${extensions.join(" ")}) in ${join(root, folder)} but found ${seen}.`);
    }
    const path = (i: number): string => (folder ? `${folder}/${files[i]!}` : files[i]!);
    return limited(
      {
        length: files.length,
        ...labelled(files),
        key: (i) => files[i]!,
        image: (i) => store.image(path(i), shortSide, channels),
        source: store.source && ((i) => store.source!(path(i), shortSide, channels)),
      },
      limit,
    );
  },
};
