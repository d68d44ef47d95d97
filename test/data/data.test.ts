import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import sharp from "sharp";
import { decode } from "../../src/data/decode.js";
import type { Dataset } from "../../src/data/index.js";
import { imageFolder } from "../../src/data/imageFolder.js";
import { epochOrder, loader, type Batch } from "../../src/data/loader.js";

const pixel = (r: number, g: number, b: number, n = 4) =>
  sharp({ create: { width: n, height: n, channels: 3, background: { r, g, b } } });

describe("decoding", () => {
  const first = (image: { data: Uint8Array; width: number; height: number }): number[] =>
    [0, 1, 2].map((c) => image.data[c * image.width * image.height]!);
  const near = (a: number[], b: number[], within: number): void =>
    a.forEach((v, i) => assert.ok(Math.abs(v - b[i]!) <= within, `${a} is not ${b}`));

  it("gives planes of RGB", async () =>
    near(first(await decode(await pixel(200, 100, 50).png().toBuffer(), 256)), [200, 100, 50], 0));
  it("repeats grey", async () =>
    near(first(await decode(await pixel(90, 90, 90).toColourspace("b-w").png().toBuffer(), 256)), [90, 90, 90], 0));
  it("gives grey by luma, and grey as it is", async () => {
    const grey = async (r: number, g: number, b: number) =>
      Array.from((await decode(await pixel(r, g, b, 1).png().toBuffer(), 256, 1)).data);
    assert.deepEqual(await grey(255, 0, 0), [76]); // PIL's convert("L") of pure red, green and blue
    assert.deepEqual(await grey(0, 255, 0), [150]);
    assert.deepEqual(await grey(0, 0, 255), [29]);
    assert.deepEqual(await grey(90, 90, 90), [90]);
  });
  it("keeps alpha where it is asked for, opaque where there is none", async () => {
    const raw = sharp(Buffer.from([10, 20, 30, 51]), { raw: { width: 1, height: 1, channels: 4 } });
    const eight = await raw.png().toBuffer();
    const sixteen = await sharp(eight).toColourspace("rgb16").png().toBuffer();
    for (const png of [eight, sixteen]) near([...(await decode(png, 256, 4)).data], [10, 20, 30, 51], 1);
    assert.deepEqual([...(await decode(await pixel(10, 20, 30, 1).png().toBuffer(), 256, 4)).data], [10, 20, 30, 255]);
    const grey = await pixel(90, 90, 90, 1).toColourspace("b-w").png().toBuffer();
    assert.deepEqual([...(await decode(grey, 256, 4)).data], [90, 90, 90, 255]);
  });
  it("drops alpha", async () => {
    const png = await sharp({
      create: { width: 2, height: 2, channels: 4, background: { r: 10, g: 20, b: 30, alpha: 0.2 } },
    })
      .png()
      .toBuffer();
    near(first(await decode(png, 256)), [10, 20, 30], 3);
  });
  it("brings CMYK to RGB", async () =>
    near(
      first(await decode(await pixel(250, 250, 250).toColourspace("cmyk").jpeg().toBuffer(), 256)),
      [250, 250, 250],
      12,
    ));
  it("brings 16 bits to 8", async () =>
    near(
      first(await decode(await pixel(200, 100, 50).toColourspace("rgb16").png().toBuffer(), 256)),
      [200, 100, 50],
      1,
    ));
  it("takes the first frame of an animation", async () => {
    const frames = Buffer.concat([Buffer.alloc(48, 255), Buffer.alloc(48, 0)]);
    const gif = await sharp(frames, { raw: { width: 4, height: 8, channels: 3, pageHeight: 4 } })
      .gif({ delay: [100, 100] })
      .toBuffer();
    const image = await decode(gif, 256);
    assert.deepEqual([image.width, image.height], [4, 4]);
    near(first(image), [255, 255, 255], 0);
  });
  it("turns upright what a camera held sideways", async () => {
    const wide = await sharp({ create: { width: 6, height: 3, channels: 3, background: "red" } })
      .withMetadata({ orientation: 6 })
      .jpeg()
      .toBuffer();
    const { width, height } = await decode(wide, 256);
    assert.deepEqual([width, height], [3, 6]);
  });
  it("shrinks to the short side and never enlarges", async () => {
    const big = await sharp({ create: { width: 60, height: 30, channels: 3, background: "red" } })
      .png()
      .toBuffer();
    assert.deepEqual([(await decode(big, 10)).width, (await decode(big, 10)).height], [20, 10]);
    assert.equal((await decode(big, 256)).width, 60);
  });
});

describe("an image folder", () => {
  let root: string;
  const put = async (path: string): Promise<void> => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), await pixel(1, 2, 3).png().toBuffer());
  };
  const open = (split: "train" | "val" = "train") => imageFolder.open({ root, split, shortSide: 64 });
  const keys = (d: Dataset): string[] => Array.from({ length: d.length }, (_, i) => d.key(i));
  beforeEach(() => (root = mkdtempSync(join(tmpdir(), "folder-"))));
  afterEach(() => rmSync(root, { recursive: true }));

  it("labels by the folder below its root, at any depth, in byte order", async () => {
    for (const p of ["b/2.png", "a/deep/er/1.PNG", "b/10.png"]) await put(p);
    writeFileSync(join(root, "notes.txt"), "");
    const d = (await open())!;
    assert.deepEqual(keys(d), ["a/deep/er/1.PNG", "b/10.png", "b/2.png"]);
    assert.deepEqual([...d.labels!], [0, 1, 1]);
    assert.deepEqual(d.classes, ["a", "b"]);
    assert.equal(await open("val"), undefined);
  });
  it("has splits where there are train and val folders", async () => {
    for (const p of ["train/x/1.png", "train/y/2.png", "validation/x/3.png", "validation/y/4.png"]) await put(p);
    assert.deepEqual(keys((await open())!), ["x/1.png", "y/2.png"]);
    assert.deepEqual(keys((await open("val"))!), ["x/3.png", "y/4.png"]);
  });
  it("has no labels where images lie side by side", async () => {
    for (const p of ["1.png", "2.png"]) await put(p);
    assert.equal((await open())!.labels, undefined);
  });
});

describe("the loader", () => {
  /** Images that know their index; `bad` ones reject. */
  const data = (length: number, bad = new Set<number>()): Dataset => ({
    length,
    key: (i) => `image ${i}`,
    image: (i) =>
      bad.has(i)
        ? Promise.reject(new Error("broken"))
        : Promise.resolve({ width: 1, height: 1, data: Uint8Array.of(i, i, i) }),
  });
  const take = async (from: AsyncGenerator<Batch>, n: number): Promise<Batch[]> => {
    const out: Batch[] = [];
    for (let i = 0; i < n; i++) out.push(((await from.next()) as { value: Batch }).value);
    return out;
  };
  const contents = (batches: Batch[]): string[] =>
    batches.map((b) => `${b.epoch}.${b.batch}: ${b.images.map((im) => im.data[0]).join(" ")}`);

  it("orders an epoch by seed and epoch alone", () => {
    assert.deepEqual(epochOrder(1, 5, 20), epochOrder(1, 5, 20));
    assert.notDeepEqual(epochOrder(1, 5, 20), epochOrder(1, 6, 20));
    assert.notDeepEqual(epochOrder(1, 5, 20), epochOrder(2, 5, 20));
    assert.deepEqual(
      [...epochOrder(3, 0, 50)].sort((a, b) => a - b),
      Array.from({ length: 50 }, (_, i) => i),
    );
  });
  it("shows every image once an epoch, but for what does not fill a batch", async () => {
    const seen = (await take(loader(data(11), { batchSize: 3, seed: 0 }).from(0, 0), 3)).flatMap((b) => b.indices);
    assert.equal(new Set(seen).size, 9);
  });
  it("gives the same batches from the middle as from the start", async () => {
    const whole = await take(loader(data(11), { batchSize: 3, seed: 0 }).from(0, 0), 8);
    const resumed = await take(loader(data(11), { batchSize: 3, seed: 0 }).from(1, 1), 4);
    assert.deepEqual(contents(resumed), contents(whole.slice(4)));
  });
  it("replaces broken files, and a resumed run that knows them replaces them alike", async () => {
    const bad = new Set([2, 5, 9, 14]);
    const said: string[] = [];
    const whole = await take(
      loader(data(17, bad), { batchSize: 4, seed: 3, onBroken: (key) => said.push(key) }).from(0, 0),
      12,
    );
    for (const b of whole)
      for (const [k, i] of b.indices.entries()) assert.ok(!bad.has(i) && b.images[k]!.data[0] === i);
    assert.deepEqual(said.sort(), [...bad].map((i) => `image ${i}`).sort());
    for (const [epoch, batch, at] of [
      [0, 2, 2],
      [1, 3, 7],
      [2, 0, 8],
    ] as const) {
      const resumed = await take(
        loader(data(17, bad), { batchSize: 4, seed: 3, broken: new Set(bad) }).from(epoch, batch),
        4,
      );
      assert.deepEqual(contents(resumed), contents(whole.slice(at, at + 4)));
    }
  });
  it("ends in a sentence where nothing can be read, or a batch is larger than the data", async () => {
    const all = new Set([0, 1, 2, 3]);
    await assert.rejects(
      loader(data(4, all), { batchSize: 2, seed: 0 }).from(0, 0).next(),
      /Too few of the 4 images can be read: 4 are broken\./,
    );
    assert.throws(() => loader(data(4), { batchSize: 5, seed: 0 }), /A batch of 5 is larger than the data: 4 images\./);
  });
});
