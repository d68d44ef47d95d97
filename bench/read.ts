/** npm run bench -- read DIR [SHORT_SIDE]: CPU time of an image from a folder, from the disk cache, and from a packed file. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cached, type Dataset } from "../src/data/index.js";
import { imageFolder, openStore } from "../src/data/imageFolder.js";
import { pack } from "../src/data/packed.js";

export async function main([root, side = "128"]: string[]): Promise<void> {
  if (!root) throw new Error("Expected a folder of images: npm run bench -- read DIR");
  const shortSide = Number(side);
  const aside = await mkdtemp(join(tmpdir(), "read-"));
  const packed = join(aside, "images.safetensors");
  const open = async (from: string): Promise<Dataset> =>
    (await imageFolder.open({ root: from, split: "train", shortSide }))!;
  const timed = async (what: string, data: Dataset): Promise<void> => {
    const cpu = process.cpuUsage();
    for (let start = 0; start < data.length; start += 16)
      await Promise.all(Array.from({ length: Math.min(16, data.length - start) }, (_, i) => data.image(start + i)));
    const { user, system } = process.cpuUsage(cpu);
    process.stdout.write(`${what}: ${((user + system) / data.length).toFixed(0)} µs of CPU an image\n`);
  };
  try {
    await pack(await openStore(root), packed, { shortSide });
    const folder = await open(root);
    await timed(`folder of ${folder.length}`, folder);
    const disk = await cached(folder, "disk", { folder: join(aside, "cache") });
    await timed("disk cache, filled", disk);
    await timed("disk cache, read", disk);
    await timed("packed file", await open(packed));
  } finally {
    await rm(aside, { recursive: true });
  }
}
