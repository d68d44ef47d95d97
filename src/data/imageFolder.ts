/** A folder of images of any depth. DIR/train and DIR/val|validation|test are splits; the label is the folder below the split. */
import { readdir, stat } from "node:fs/promises";
import { extname, join, resolve } from "node:path";
import { decode, extensions } from "./decode.js";
import { limited, type DataOptions, type Dataset, type DataSource } from "./dataset.js";

const splits = { train: ["train"], val: ["val", "validation", "test"] } as const;

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
  const order = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
  return { files: files.sort(order), others: others.sort(order) };
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

/** The folder of a split below root: root itself where the data has no splits; undefined where it has, but not this one. */
async function splitFolder(root: string, split: DataOptions["split"]): Promise<string | undefined> {
  const entries = new Set(
    (await readdir(root, { withFileTypes: true })).flatMap((e) => (e.isDirectory() ? [e.name] : [])),
  );
  const has = (s: "train" | "val") => splits[s].find((name) => entries.has(name));
  const name = has(split);
  if (name) return join(root, name);
  return split === "train" && !(has("val") && entries.has("train")) ? root : undefined;
}

/** Labels from the first folder of each path; none where images lie outside folders or all in one. */
function labelled(files: readonly string[]): { labels: Int32Array; classes: string[] } | undefined {
  const folders = files.map((f) => (f.includes("/") ? f.slice(0, f.indexOf("/")) : undefined));
  const classes = [...new Set(folders)].sort() as string[];
  if (folders.includes(undefined) || classes.length < 2) return undefined;
  const index = new Map(classes.map((c, i) => [c, i]));
  return { labels: Int32Array.from(folders, (f) => index.get(f!)!), classes };
}

export const imageFolder: DataSource = {
  summary: "A folder of images, of any depth; class folders give labels",
  async open({ root, split, shortSide, limit }): Promise<Dataset | undefined> {
    await readable(root);
    const folder = await splitFolder(root, split).catch(() => root);
    if (folder === undefined) return undefined;
    const { files, others } = await listed(folder);
    if (files.length === 0) {
      const seen = others.length
        ? `${others.length} other files (${others.slice(0, 3).join(", ")}${others.length > 3 ? ", …" : ""})`
        : "nothing";
      throw new Error(`Expected images (${extensions.join(" ")}) in ${folder} but found ${seen}.`);
    }
    return limited(
      {
        length: files.length,
        ...labelled(files),
        key: (i) => files[i]!,
        image: (i) => decode(join(folder, files[i]!), shortSide),
        source: async (i) => {
          const file = resolve(folder, files[i]!);
          const { mtimeMs, size } = await stat(file);
          return [file, mtimeMs, size, shortSide].join("\n");
        },
      },
      limit,
    );
  },
};
