/** Makes samples/ from the clothing photographs (CC0): node dist/bench/makeSample.js SOURCE/train samples */
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { random } from "../src/random.js";

const classes = ["hat", "outwear", "shirt", "shoes", "skirt"];
const perClass = 290;
const shortSide = 72;

const [source, target] = process.argv.slice(2) as [string, string];
let bytes = 0;
for (const name of classes) {
  const files = (await readdir(join(source, name))).sort();
  const chosen = [...random(0, "sample", name).permutation(files.length)].slice(0, perClass).sort((a, b) => a - b);
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
process.stdout.write(`${classes.length} classes, ${(bytes / 1e6).toFixed(2)} MB\n`);
