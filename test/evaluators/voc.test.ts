import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { vocEval, vocIou, type VocBox, type VocObject } from "../../evaluators/voc.js";
import { readVocAnnotation, readVocAnnotations, readVocDetections } from "../../evaluators/vocFiles.js";

const near = (value: number | null | undefined, expected: number): void =>
  assert.ok(Math.abs(value! - expected) < 1e-9, `${value} is not ${expected}`);

describe("VOC's average precision", () => {
  const [left, right, far]: VocBox[] = [
    [1, 1, 20, 20],
    [31, 31, 50, 50],
    [81, 81, 99, 99],
  ];
  const object = (box: VocBox, difficult = false): VocObject => ({ name: "cat", box, difficult });
  const truth = new Map([["a", [object(left!), object(right!)]]]);
  const found = (...list: [VocBox, number][]) =>
    new Map([["cat", list.map(([box, score]) => ({ image: "a", score, box }))]]);
  const ap = (...args: Parameters<typeof vocEval>) => vocEval(...args).ap.cat;

  it("is 100 where all is found, by either metric", () => {
    for (const metric of ["07", "12"] as const) near(ap(truth, found([left!, 0.9], [right!, 0.8]), { metric }), 100);
  });
  it("of one in two is half the area, and six of eleven points", () => {
    near(ap(truth, found([left!, 0.9])), 50);
    near(ap(truth, found([left!, 0.9]), { metric: "07" }), (100 * 6) / 11);
  });
  it("takes a second detection of an object for false", () =>
    near(ap(truth, found([left!, 0.9], [left!, 0.8], [right!, 0.7])), 50 + (50 * 2) / 3));
  it("counts difficult objects neither for nor against", () => {
    const some = new Map([["a", [object(left!), object(right!, true)]]]);
    near(ap(some, found([right!, 0.9], [right!, 0.85], [left!, 0.8])), 100);
    assert.equal(ap(new Map([["a", [object(left!, true)]]]), found([left!, 1])), null);
  });
  it("takes what lies elsewhere for false", () => near(ap(truth, found([far!, 0.9], [left!, 0.8])), 25));
  it("counts pixels from the first to the last of a box", () => {
    near(vocIou([1, 1, 10, 10], [1, 1, 10, 5]), 0.5);
    assert.equal(
      ap(new Map([["a", [object([1, 1, 10, 10])]]]), found([[1, 1, 10, 5], 1])),
      0,
      "half is not more than half",
    );
  });
});

describe("VOC's files", () => {
  let dir: string;
  before(() => (dir = mkdtempSync(join(tmpdir(), "voc-"))));
  after(() => rmSync(dir, { recursive: true }));
  const xml = `<annotation><object><name>a &amp; b</name><difficult>1</difficult><part><name>head</name><bndbox><xmin>9</xmin></bndbox></part>
    <bndbox><xmin>1.5</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>`;

  it("give objects without their parts", () => {
    writeFileSync(join(dir, "x.xml"), xml);
    assert.deepEqual(readVocAnnotation(join(dir, "x.xml")), [{ name: "a & b", box: [1.5, 2, 3, 4], difficult: true }]);
    assert.deepEqual([...readVocAnnotations(dir).keys()], ["x"]);
  });
  it("give detections from text and from JSON alike", () => {
    const folder = join(dir, "results");
    mkdirSync(folder);
    writeFileSync(join(folder, "comp4_det_test_cat.txt"), "000001 0.5 1 2 10 20\n");
    const file = join(dir, "results.json");
    writeFileSync(file, JSON.stringify([{ image_id: "000001", category_id: "cat", bbox: [0, 1, 10, 19], score: 0.5 }]));
    assert.deepEqual(readVocDetections(folder, ["cat", "dog"]), readVocDetections(file, ["cat"]));
  });
  it("answer what they cannot be with file and line", () => {
    writeFileSync(join(dir, "bad.xml"), "<annotation>");
    assert.throws(() => readVocAnnotation(join(dir, "bad.xml")), /bad\.xml has no whole <annotation>/);
    writeFileSync(join(dir, "results", "comp4_det_test_cat.txt"), "000001 0.5 1 2 10 20\n000001 x\n");
    assert.throws(() => readVocDetections(join(dir, "results"), ["cat"]), /_cat\.txt: line 2 is not "image score/);
    assert.throws(
      () => readVocDetections(join(dir, "results"), ["dog"]),
      /has no file CLASS\.txt or …_CLASS\.txt for any of dog\./,
    );
    assert.throws(() => readVocDetections(join(dir, "none"), []), /none is not there\./);
  });
});
