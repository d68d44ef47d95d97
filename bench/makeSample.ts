/** Makes samples/ from the clothing photographs (CC0): node dist/bench/makeSample.js SOURCE/train samples */
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { random } from "../src/random.js";

const classes = ["dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt"];
const perClass = 100;
const shortSide = 72;

const [source, target] = process.argv.slice(2) as [string, string];
const names = process.argv[4]?.split(",") ?? classes;
const count = Number(process.argv[5] ?? perClass);
let bytes = 0;
for (const name of names) {
  const files = (await readdir(join(source, name))).sort();
  const chosen = [...random(0, "sample", name).permutation(files.length)].slice(0, count).sort((a, b) => a - b);
  await mkdir(join(target, name), { recursive: true });
  for (const [i, at] of chosen.entries()) {
    const jpeg = await sharp(join(source, name, files[at]!))
      .resize({ width: shortSide, height: shortSide, fit: "outside", withoutEnlargement: true })
      .jpeg({ quality: 80, mozjpeg: true })
      .toBuffer();
    bytes += jpeg.length;
    await writeFile(join(target, name, `${String(i).padStart(3, "0")}.jpg`), jpeg);
  }
}
process.stdout.write(`${names.length} classes, ${(bytes / 1e6).toFixed(2)} MB\n`);
