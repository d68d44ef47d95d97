import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import sharp from "sharp";
import { readSafetensors } from "../../src/artifacts/safetensors.js";
import { imageFolder, openStore } from "../../src/data/imageFolder.js";
import { inspect } from "../../src/data/inspect.js";
import { pack } from "../../src/data/packed.js";

describe("a folder of odd images", () => {
  let root: string;
  let packed: string;
  const put = (path: string, bytes: Uint8Array | string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), bytes);
  };
  const picture = (width: number, height: number, r: number) =>
    sharp({ create: { width, height, channels: 3, background: { r, g: 20, b: 30 } } });
  before(async () => {
    root = mkdtempSync(join(tmpdir(), "odd-"));
    packed = join(root, "..", `${Date.now()}-${process.pid}.safetensors`);
    const plain = await picture(8, 6, 10).png().toBuffer();
    put("train/a/1.png", plain);
    put("train/a/copy.png", plain);
    put("val/a/3.png", plain);
    put("train/b/grey.png", await picture(9, 12, 90).toColourspace("b-w").png().toBuffer());
    put("train/b/deep.png", await picture(10, 10, 90).toColourspace("rgb16").png().toBuffer());
    put("train/b/turned.jpg", await picture(20, 4, 99).withMetadata({ orientation: 6 }).jpeg().toBuffer());
    put("train/b/broken.jpg", (await picture(50, 50, 7).jpeg().toBuffer()).subarray(0, 200));
    put("val/b/4.webp", await picture(5, 7, 200).webp({ lossless: true }).toBuffer());
    put("extra/5.png", await picture(3, 3, 1).png().toBuffer());
    put("notes.txt", "not a picture");
  });
  after(() => {
    rmSync(root, { recursive: true });
    rmSync(packed, { force: true });
  });

  it("is described: splits, classes, formats, sizes, oddities, copies, and what cannot be read", async () => {
    const { unreadable, ...found } = await inspect(root);
    assert.deepEqual(found, {
      root,
      images: 9,
      others: 1,
      splits: {
        train: { images: 6, classes: { a: 2, b: 4 } },
        val: { images: 2, classes: { a: 1, b: 1 } },
      },
      unused: ["extra"],
      formats: { png: 6, jpeg: 1, webp: 1 },
      odd: { grey: ["train/b/grey.png"], "16 bit": ["train/b/deep.png"], "turned by EXIF": ["train/b/turned.jpg"] },
      shortSide: { least: 3, median: 6, most: 10 },
      duplicates: [["train/a/1.png", "train/a/copy.png", "val/a/3.png"]],
      duplicatesAcrossSplits: 1,
    });
    assert.deepEqual(
      unreadable.map((u) => u.file),
      ["train/b/broken.jpg"],
    );
  });

  it("packed into one file, gives the same splits, labels and pixels, without what cannot be read", async () => {
    const broken: string[] = [];
    const { images } = await pack(await openStore(root), packed, {
      shortSide: 7,
      onBroken: (path) => broken.push(path),
    });
    assert.deepEqual([images, broken], [8, ["train/b/broken.jpg"]]);
    for (const split of ["train", "val"] as const) {
      const [own, whole] = await Promise.all(
        [packed, root].map(async (from) => (await imageFolder.open({ root: from, split, shortSide: 7 }))!),
      );
      assert.deepEqual(own!.classes, whole!.classes);
      for (let i = 0, j = 0; i < own!.length; i++, j++) {
        if (whole!.key(j) === "b/broken.jpg") j++;
        assert.equal(own!.key(i), whole!.key(j));
        assert.equal(own!.labels![i], whole!.labels![j]);
        assert.deepEqual(await own!.image(i), await whole!.image(j));
      }
    }
    const small = (await imageFolder.open({ root: packed, split: "train", shortSide: 3 }))!;
    const { width, height } = await small.image(0);
    assert.deepEqual([width, height], [4, 3], "a smaller short side shrinks once more");
  });
  it("packed, is a safetensors file", () => {
    const { tensors, metadata } = readSafetensors(readFileSync(packed));
    assert.deepEqual(metadata, { shortSide: "7" });
    assert.deepEqual(tensors["val/b/4.webp"]!.shape, [3, 7, 5]);
    assert.deepEqual([...new Set(tensors["val/b/4.webp"]!.data as Uint8Array)], [200, 20, 30]);
  });
  it("packed and cut short, is refused in a sentence; what fails leaves nothing behind", async () => {
    truncateSync(packed, readFileSync(packed).length - 5);
    await assert.rejects(
      imageFolder.open({ root: packed, split: "train", shortSide: 7 }),
      /is not a packed folder of images: it ends at byte \d+, its images at \d+\./,
    );
    truncateSync(packed, 4);
    await assert.rejects(
      imageFolder.open({ root: packed, split: "train", shortSide: 7 }),
      /not a packed folder of images/,
    );
    const folder = mkdtempSync(join(tmpdir(), "none-"));
    writeFileSync(join(folder, "a.png"), "no picture");
    const store = await openStore(folder);
    await assert.rejects(pack(store, join(folder, "out.safetensors"), { shortSide: 7 }), /there is nothing to pack\./);
    await assert.rejects(pack(store, join(folder, "out.zip"), { shortSide: 7 }), /ends in \.safetensors but received/);
    assert.deepEqual(readdirSync(folder), ["a.png"]);
    rmSync(folder, { recursive: true });
  });
});
