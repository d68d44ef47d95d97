import assert from "node:assert/strict";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { cached, type Dataset } from "../../src/data/index.js";
import { imageFolder } from "../../src/data/imageFolder.js";

describe("cached images", () => {
  let root: string;
  let folder: string;
  const put = async (name: string, red: number): Promise<void> => {
    const picture = sharp({ create: { width: 5, height: 4, channels: 3, background: { r: red, g: 2, b: 3 } } });
    writeFileSync(join(root, name), await picture.png().toBuffer());
  };
  /** The folder's images with a count of how often each was decoded. */
  async function counted(shortSide = 64): Promise<Dataset & { decoded: number }> {
    const d = (await imageFolder.open({ root, split: "train", shortSide }))!;
    const all = {
      ...d,
      decoded: 0,
      image: (i: number) => {
        all.decoded++;
        return d.image(i);
      },
    };
    return all;
  }
  const read = async (d: Dataset, how: Parameters<typeof cached>[1], limit?: number) => {
    const kept = await cached(d, how, { folder, limit });
    const images = [];
    for (let pass = 0; pass < 2; pass++) for (let i = 0; i < d.length; i++) images.push(await kept.image(i));
    return images;
  };
  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), "pictures-"));
    folder = mkdtempSync(join(tmpdir(), "cache-"));
    for (const i of [0, 1, 2]) await put(`${i}.png`, 50 * i);
  });
  afterEach(() => [root, folder].forEach((f) => rmSync(f, { recursive: true })));

  for (const [how, times] of [
    ["memory", 3],
    ["disk", 3],
    ["none", 6],
  ] as const)
    it(`${how}: decodes three images ${times} times for two passes, and gives the same bytes`, async () => {
      const d = await counted();
      const images = await read(d, how);
      assert.equal(d.decoded, times);
      for (const [i, image] of images.entries())
        assert.deepEqual(
          { width: image.width, height: image.height, data: [...image.data] },
          { width: 5, height: 4, data: [50 * (i % 3), 2, 3].flatMap((v) => Array<number>(20).fill(v)) },
        );
    });
  it("serves another run from disk", async () => {
    await read(await counted(), "disk");
    const d = await counted();
    await read(d, "disk");
    assert.equal(d.decoded, 0);
  });
  it("decodes anew what changed on disk, or is wanted in another size", async () => {
    await read(await counted(), "disk");
    await put("1.png", 255);
    const d = await counted();
    assert.equal((await read(d, "disk"))[1]!.data[0], 255);
    assert.equal(d.decoded, 1);
    const smaller = await counted(2);
    assert.equal((await read(smaller, "disk"))[0]!.height, 2);
    assert.equal(smaller.decoded, 3);
  });
  it("takes no harm from a file cut short, and sweeps away what was being written an hour ago", async () => {
    await read(await counted(), "disk");
    const [first] = readdirSync(folder);
    truncateSync(join(folder, first!), 11);
    for (const [name, age] of [
      ["old.writing", 7200],
      ["new.writing", 0],
    ] as const) {
      writeFileSync(join(folder, name), "half");
      const then = Date.now() / 1000 - age;
      utimesSync(join(folder, name), then, then);
    }
    const d = await counted();
    const images = await read(d, "disk");
    assert.deepEqual([d.decoded, images[0]!.data[0], images[1]!.data[0], images[2]!.data[0]], [1, 0, 50, 100]);
    assert.deepEqual(
      readdirSync(folder).filter((f) => f.endsWith(".writing")),
      ["new.writing"],
    );
    assert.equal(readFileSync(join(folder, first!)).length, 8 + 60);
  });
  it("stays within its bound, old files leaving first", async () => {
    const total = (): number => readdirSync(folder).reduce((n, f) => n + statSync(join(folder, f)).size, 0);
    await read(await counted(), "disk", 140);
    assert.equal(total(), 136, "two images of 68 bytes");
    const before = readdirSync(folder);
    const then = Date.now() / 1000 - 60;
    utimesSync(join(folder, before[0]!), then, then);
    await cached(await counted(), "disk", { folder, limit: 80 });
    assert.deepEqual(readdirSync(folder), before.slice(1));
    const d = await counted();
    await read(d, "memory", 60);
    assert.equal(d.decoded, 5, "one of three fits");
  });
});
