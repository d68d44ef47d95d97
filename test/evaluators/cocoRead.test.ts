import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { bytesSource, readDetections, readGroundTruth } from "../../evaluators/coco/index.js";
import { JsonReader, keys } from "../../evaluators/coco/json.js";

const source = (text: string, name = "file.json") => bytesSource(name, new TextEncoder().encode(text));
const gt = `{"images": [{"id": 5, "width": 40, "height": 30}], "categories": [{"id": 1, "name": "a"}], "annotations": []}`;
const truth = readGroundTruth(source(gt), "segm").data;

describe("the JSON reader", () => {
  /** What a reader with a window of a few bytes makes of a list of numbers and texts. */
  const list = (text: string, window: number): unknown[] => {
    const r = new JsonReader(source(text), window);
    const values: unknown[] = [];
    r.each("list", (i) => (values[i] = r.isString() ? r.string() : r.number()));
    r.finish();
    return values;
  };
  it("reads every double as JSON.parse does, through any window", () =>
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.double({ noNaN: true, noDefaultInfinity: true }), fc.integer(), fc.string())),
        fc.integer({ min: 1, max: 40 }),
        (values, window) => {
          const text = JSON.stringify(values, null, values.length % 3);
          assert.deepEqual(list(text, window), JSON.parse(text));
        },
      ),
    ));
  it("rounds decimals as the engine's parser does", () =>
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 10n ** 20n }), fc.integer({ min: 0, max: 30 }), (digits, scale) => {
        const text = String(digits).padStart(scale + 1, "0");
        const number = scale ? `${text.slice(0, -scale)}.${text.slice(-scale)}` : text;
        assert.deepEqual(list(`[-${number}]`, 64), [-Number(number)]);
      }),
    ));
  it("knows Python's NaN and Infinity", () =>
    assert.deepEqual(list("[NaN, Infinity, -Infinity, true, false]", 3), [NaN, Infinity, -Infinity, 1, 0]));
  it("skips what nobody asks for, longer than its window", () => {
    const skipped = { a: [1, { b: ']}\\"' }, null], c: "x".repeat(500), d: Array(300).fill([1.5]) };
    const r = new JsonReader(source(JSON.stringify({ ...skipped, wanted: [7], e: -1e3 })), 16);
    let found = NaN;
    r.top(keys("wanted"), (k) => {
      if (k === 0) r.each("wanted", () => (found = r.number()));
      else r.skipTop();
    });
    r.finish();
    assert.equal(found, 7);
  });
  it("skips any value, through any window", () =>
    fc.assert(
      fc.property(
        fc.jsonValue(),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 0, max: 4 }),
        (value, window, space) => {
          const r = new JsonReader(source(JSON.stringify([[value], 7], null, space)), window);
          let last = NaN;
          r.each("list", (i) => (i === 0 ? r.skip() : (last = r.number())));
          r.finish();
          assert.equal(last, 7);
        },
      ),
    ));
});

describe("COCO's files", () => {
  const result = (more: string): string => `[{"image_id": 5, "category_id": 1, "score": 0.5, ${more}}]`;
  const mistakes: [what: string, text: string, says: RegExp][] = [
    ["nothing", "", /dt\.json: the file \(byte 0, line 1\) ends where a value is expected; is it cut short\./],
    ["no JSON", "hello", /has "h" where an array is expected\./],
    ["an object", "{}", /is an object; an array of results is expected\./],
    [
      "a file cut short",
      result('"bbox": [1, 2, 3, 4]').slice(0, -7),
      /results\[0\] \(byte \d+, line 1\) ends where .* is expected; is it cut short\./,
    ],
    ["two documents", `${result('"bbox": [1, 2, 3, 4]')}\n[]`, /\(byte \d+, line 2\) goes on after its end\./],
    [
      "an unknown image",
      result('"bbox": [1, 2, 3, 4], "image_id": 6'),
      /results\[0\] .* is on image 6, which the ground truth has not\./,
    ],
    ["no score", '[{"image_id": 5, "category_id": 1, "bbox": [1, 2, 3, 4]}]', /results\[0\] .* has no score\./],
    ["a text as id", '[{"image_id": "5"}]', /has a text as image_id; a number is expected\./],
    ["three numbers as a box", result('"bbox": [1, 2, 3]'), /has a bbox of 3 numbers; 4 are expected\./],
    ["neither box nor mask", result('"x": 1'), /has no bbox, segmentation or keypoints\./],
    [
      "run lengths of another size",
      result('"segmentation": {"size": [30, 40], "counts": [100, 10]}'),
      /results\[0\] \(byte \d+, line 1\) has run lengths that cover 110 pixels, but its size \[30, 40\] has 1200\./,
    ],
    [
      "a line as a polygon",
      result('"bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 3, 4]]'),
      /has a polygon of 4 numbers; x, y of three vertices or more are expected\./,
    ],
  ];
  for (const [what, text, says] of mistakes)
    it(`answers ${what} with a sentence and the place`, () =>
      assert.throws(() => readDetections(source(text, "dt.json"), truth, "segm"), says));
  it("names the line of a mistake deep in the file", () => {
    const text = `[\n${Array(50).fill('{"image_id": 5,\n"category_id": 1, "score": 1, "bbox": [0, 0, 1, 1]}').join(",\n")},\n{]`;
    assert.throws(
      () => readDetections(source(text, "dt.json"), truth, "bbox"),
      /dt\.json: results\[50\] \(byte \d+, line 102\) has "\]" where a key is expected\./,
    );
  });
  it("answers a ground truth without categories, and a file that is not there", () => {
    assert.throws(() => readGroundTruth(source(`{"images": [], "annotations": []}`), "bbox"), /has no categories\./);
    assert.throws(() => readGroundTruth("/nowhere.json", "bbox"), /\/nowhere\.json cannot be read: ENOENT/);
  });
  it("takes keys in any order, and the annotations before their images", () => {
    const { data } = readGroundTruth(
      source(`{"categories": [{"name": "a", "id": 1}], "annotations": [{"bbox": [1, 2, 3, 4], "x": {"y": []}, "id": 1, "area": 12, "iscrowd": 0,
        "category_id": 1, "segmentation": [[1, 2, 3, 4, 5, 6]], "image_id": 5}], "images": [{"height": 30, "id": 5, "width": 40}]}`),
      "segm",
    );
    assert.deepEqual([...data.image, ...data.category], [0, 0]);
    assert.deepEqual([data.masks!.height.data[0], data.masks!.width.data[0]], [30, 40]);
  });

  it("takes a file of more bytes than an array may have", () => {
    const long = { ...source(result('"bbox": [1, 2, 3, 4]')), size: 2 ** 40 };
    assert.equal(readDetections(long, truth, "bbox").data.length, 1);
  });

  it("streams results far larger than the memory it may use", function () {
    this.timeout(60_000);
    const dir = mkdtempSync(join(tmpdir(), "coco-"));
    const [truthFile, file] = [join(dir, "gt.json"), join(dir, "dt.json")];
    writeFileSync(truthFile, gt);
    const entry = `{"image_id":5,"category_id":1,"bbox":[1.25,2.5,3,4],"score":0.5,"note":"${"x".repeat(10_000)}"}`;
    const out = openSync(file, "w");
    const block = Buffer.from(`${Array(200).fill(entry).join()},`);
    writeSync(out, "[");
    for (let i = 0; i < 80; i++) writeSync(out, block);
    writeSync(out, `${entry}]`);
    closeSync(out);
    const module = new URL("../../evaluators/coco/index.js", import.meta.url).href;
    const printed = execFileSync(process.execPath, [
      "--input-type=module",
      "-e",
      `const { readGroundTruth, readDetections } = await import(${JSON.stringify(module)});
       const gt = readGroundTruth(${JSON.stringify(truthFile)}, "bbox").data;
       const before = process.resourceUsage().maxRSS;
       const { length } = readDetections(${JSON.stringify(file)}, gt, "bbox").data;
       console.log(length, Math.round((process.resourceUsage().maxRSS - before) / 1024));`,
    ]);
    rmSync(dir, { recursive: true });
    const [length, megabytes] = String(printed).trim().split(" ").map(Number) as [number, number];
    assert.equal(length, 16_001);
    assert.ok(megabytes < 60, `160 MB took ${megabytes} MB`);
  });
});
