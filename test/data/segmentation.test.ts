import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import sharp from "sharp";
import { byShortSide, cutLabels, drawCut, uncut, viewer } from "../../evaluators/segmentation/views.js";
import { openSegmentation, type SegmentationOptions } from "../../src/data/segmentationFolder.js";
import { random } from "../../src/random.js";
import { portableEngine } from "../engine.js";

describe("folders of label maps", () => {
  let dir: string;
  before(() => void (dir = mkdtempSync(join(tmpdir(), "labels-"))));
  after(() => rmSync(dir, { recursive: true }));

  const picture = async (path: string, width = 4, height = 2): Promise<void> => {
    const file = join(dir, path);
    mkdirSync(dirname(file), { recursive: true });
    await sharp({ create: { width, height, channels: 3, background: "#804020" } }).toFile(file);
  };
  const labels = async (path: string, values: number[], width = 4): Promise<void> => {
    const file = join(dir, path);
    mkdirSync(dirname(file), { recursive: true });
    await sharp(Buffer.from(values), { raw: { width, height: values.length / width, channels: 1 } })
      .toColourspace("b-w")
      .png()
      .toFile(file);
  };
  const text = (path: string, content: string): void => {
    mkdirSync(dirname(join(dir, path)), { recursive: true });
    writeFileSync(join(dir, path), content);
  };
  const open = (root: string, o: Partial<SegmentationOptions> = {}) =>
    openSegmentation(join(dir, root), { split: "val", classes: 0, ignore: [], ...o });
  const size = { width: 4, height: 2 };
  const some = [0, 1, 2, 2, 255, 0, 3, 11];

  it("read CamVid's layout, with its own label for what does not count", async () => {
    for (const split of ["train", "val", "test"]) {
      await picture(`camvid/${split}/a.jpg`);
      await labels(`camvid/${split}annot/a.png`, some);
    }
    const { layout, classes, train, test } = open("camvid", { ignore: [11], split: "test" });
    assert.match(layout, /^CamVid/);
    assert.deepEqual(classes, ["0", "1", "2", "3"]);
    assert.match(test.images.key(0), /camvid\/test\/a\.jpg$/);
    assert.deepEqual([...train.labels(0, size).labels], [0, 1, 2, 2, 255, 0, 3, 255]);
    const { width, height } = await train.images.image(0);
    assert.deepEqual({ width, height }, size);
  });
  it("read VOC's layout by its lists", async () => {
    for (const name of ["2007_1", "2007_2", "unlisted"]) {
      await picture(`voc/JPEGImages/${name}.jpg`);
      await labels(`voc/SegmentationClass/${name}.png`, some.slice(0, 4), 4);
    }
    text("voc/ImageSets/Segmentation/train.txt", "2007_2\n");
    text("voc/ImageSets/Segmentation/val.txt", "2007_1\n\n");
    const { layout, train, test } = open("voc");
    assert.match(layout, /^PASCAL VOC/);
    assert.deepEqual(
      [train.images.key(0), test.images.key(0)].map((p) => p.slice(-10)),
      ["2007_2.jpg", "2007_1.jpg"],
    );
    assert.equal(train.images.length, 1);
  });
  it("read COCO-Stuff's layout, and the names of classes", async () => {
    for (const split of ["train2017", "val2017"]) {
      await picture(`coco/images/${split}/000000000009.jpg`);
      await labels(`coco/annotations/${split}/000000000009.png`, [0, 1, 1, 1, 1, 1, 0, 0]);
    }
    text("coco/classes.txt", "grass\nsky\n");
    assert.match(open("coco").layout, /^COCO-Stuff/);
    assert.deepEqual(open("coco").classes, ["grass", "sky"]);
    assert.throws(() => open("coco", { classes: 3 }), /classes\.txt names 2 classes, but 3 classes are 0 to 2/);
  });

  it("say what is wrong with a file", async () => {
    await picture("wrong/train/a.jpg");
    await labels("wrong/trainannot/a.png", [0, 1, 2, 9, 0, 0, 0, 0]);
    await picture("wrong/val/b.jpg", 5, 2);
    await labels("wrong/valannot/b.png", some);
    const { train, test } = open("wrong", { classes: 3 });
    assert.throws(
      () => train.labels(0, size),
      /trainannot\/a\.png has label 9; 3 classes are 0 to 2\. Raise --set classes, or leave it out with --set ignore=9\./,
    );
    assert.throws(
      () => test.labels(0, { width: 5, height: 2 }),
      /valannot\/b\.png is 4 × 2 pixels, its image .*val\/b\.jpg 5 × 2\./,
    );
    await picture("wrong/train/c.jpg");
    assert.throws(() => open("wrong"), /train\/c\.jpg has no label: .*trainannot\/c\.png is not there\./);
  });
  it("say what a folder lacks", async () => {
    await picture("none/a.jpg");
    assert.throws(
      () => open("none"),
      /none has no images with label PNGs in a layout that is known here\. Known are CamVid.*; PASCAL VOC.*; COCO-Stuff/,
    );
    assert.throws(() => open("nowhere"), /There is no folder .*nowhere\./);
    await picture("half/train/a.jpg");
    await labels("half/trainannot/a.png", some);
    assert.throws(() => open("half", { split: "test", classes: 2 }), /has no images of a test split.*--set split/);
    await labels("half/trainannot/a.png", Array<number>(8).fill(255));
    await picture("half/val/a.jpg");
    await labels("half/valannot/a.png", some);
    assert.throws(() => open("half"), /No pixel of the 1 training images has a label that counts\./);
  });
});

describe("views of label maps", () => {
  const [height, width] = [40, 60];
  /** Every pixel of another colour; its label says which. */
  const labels = { height, width, labels: Uint16Array.from({ length: height * width }, (_, i) => i % 251) };
  const image = {
    height,
    width,
    data: Uint8Array.from({ length: 3 * height * width }, (_, i) => (i % (height * width)) % 251),
  };

  it("move labels as they move pixels", async () => {
    const views = await viewer(portableEngine());
    const cutting = { resized: byShortSide(0), ratio: [1, 1] as const, crop: { height: 24, width: 32 }, flip: 0.5 };
    let mirrored = 0;
    for (let seed = 0; seed < 8; seed++) {
      const cut = drawCut(random(seed, "cut"), image, cutting);
      mirrored += Number(cut.flip);
      const { data } = await views.view(image, cut);
      const moved = cutLabels(labels, cut, cutting.crop);
      moved.forEach((v, i) => assert.equal(Math.round(255 * Number(data[i])), Number(v)));
    }
    assert.ok(mirrored > 0 && mirrored < 8, "both hands are seen");
    views.release();
  });
  it("do not count what the image does not reach, and show the mean there", async () => {
    const views = await viewer(portableEngine());
    const crop = { height: 50, width: 70 };
    const cut = drawCut(random(0, "cut"), image, { resized: byShortSide(20), ratio: [1.5, 1.5], crop, flip: 0 });
    assert.deepEqual([cut.height, cut.width], [30, 45]);
    const { image: view, labels: maps } = await views.batch([image], [labels], [cut], crop, [0.1, 0.2, 0.3]);
    for (let y = 0; y < crop.height; y++)
      for (let x = 0; x < crop.width; x++) {
        const outside = y >= 30 || x >= 45;
        const at = y * crop.width + x;
        if (outside) assert.ok(Math.abs(Number(view.data[2 * 50 * 70 + at]) - 0.3) < 1e-6);
        assert.equal(maps.data[at] === 255n, outside);
      }
    views.release();
  });
  it("take the nearest label where the image shrinks or grows", () => {
    const small = cutLabels(labels, uncut(image, { height: 20, width: 30 }), { height: 20, width: 30 });
    assert.equal(Number(small[0]), labels.labels[width + 1]);
    const large = cutLabels(labels, uncut(image, { height: 80, width: 120 }), { height: 80, width: 120 });
    for (const [y, x] of [
      [0, 0],
      [79, 119],
      [41, 6],
    ] as const)
      assert.equal(Number(large[y * 120 + x]), labels.labels[(y >> 1) * width + (x >> 1)]);
  });
});
