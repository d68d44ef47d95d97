import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";

const root = fileURLToPath(new URL("../../", import.meta.url));
const fixtures = join(root, "test", "fixtures", "coco");
const diptych = (...args: string[]) =>
  spawnSync(process.execPath, [join(root, "bin", "diptych.cjs"), ...args], {
    encoding: "utf8",
    cwd: root,
    env: { ...process.env, NO_COLOR: "1", COLUMNS: "500" },
  });

describe("diptych coco-eval", () => {
  const files = ["--gt", join(fixtures, "instances.json"), "--dt", join(fixtures, "segm.json"), "--iou", "segm"];
  const { cases } = JSON.parse(readFileSync(join(fixtures, "answers.json"), "utf8")) as {
    cases: { iou: string; results: string; stats: number[]; table: string[] }[];
  };
  const expected = cases.find((c) => c.iou === "segm" && c.results === "segm.json")!;

  it("prints pycocotools' table on stdout and its remarks on stderr", () => {
    const { status, stdout, stderr } = diptych("coco-eval", ...files);
    assert.equal(status, 0, stderr);
    assert.deepEqual(
      stdout.trimEnd().split("\n"),
      expected.table.map((line) => line.trimEnd()),
    );
    assert.match(stderr, /segm\.json: \d+ detections of unknown categories are left out \(first: results\[\d+\]\)\./);
  });
  it("prints one object with --json", () => {
    const { stdout } = diptych("coco-eval", ...files, "--json", "--per-class", "--tide");
    const result = JSON.parse(stdout) as { stats: number[]; perClass: { name: string }[]; tide: { errors: object } };
    assert.deepEqual(result.stats, expected.stats);
    assert.equal(result.perClass[0]!.name, "person");
    assert.deepEqual(Object.keys(result.tide.errors), ["Cls", "Loc", "Both", "Dupe", "Bkg", "Missed"]);
  });
  const mistakes: [what: string, args: string[], says: RegExp][] = [
    ["a file that is not there", ["--gt", "none.json", "--dt", "none.json"], /none\.json cannot be read: ENOENT/],
    [
      "an unknown category",
      [...files, "--categories", "persons"],
      /Unknown category "persons"\. Did you mean person\?/,
    ],
    ["an unknown area range", [...files, "--area", "tiny=0:9"], /Unknown area range "tiny"/],
    ["two maxDets", [...files, "--max-dets", "1,100"], /The summary needs three maxDets but received 1, 100\./],
    ["a missing flag", ["--gt", "x.json"], /Missing required flag dt/],
    [
      "another kind of overlap",
      ["--gt", "x", "--dt", "y", "--iou", "box"],
      /Expected --iou=box to be one of: bbox, segm, keypoints/,
    ],
  ];
  for (const [what, args, says] of mistakes)
    it(`answers ${what} with a sentence and a non-zero exit`, () => {
      const { status, stderr } = diptych("coco-eval", ...args);
      assert.notEqual(status, 0);
      assert.match(stderr, says);
      assert.doesNotMatch(stderr, /\n\s+at /, "no stack trace");
    });
});

describe("diptych voc-eval and miou", () => {
  let dir: string;
  before(() => (dir = mkdtempSync(join(tmpdir(), "judges-"))));
  after(() => rmSync(dir, { recursive: true }));

  it("score a folder each", async () => {
    for (const folder of ["xml", "txt", "gt", "pred"]) mkdirSync(join(dir, folder));
    const box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>";
    writeFileSync(join(dir, "xml", "a.xml"), `<annotation><object><name>cat</name>${box}</object></annotation>`);
    writeFileSync(join(dir, "txt", "det_test_cat.txt"), "a 0.9 1 1 9 9\n");
    const voc = diptych("voc-eval", "--gt", join(dir, "xml"), "--dt", join(dir, "txt"), "--json");
    assert.deepEqual(JSON.parse(voc.stdout), { map: 100, ap: { cat: 100 } });
    const put = (folder: string, labels: number[], width: number) =>
      sharp(Uint8Array.from(labels), { raw: { width, height: labels.length / width, channels: 1 } })
        .toColourspace("b-w")
        .png()
        .toFile(join(dir, folder, "a.png"));
    await put("gt", [0, 0, 1, 255], 2);
    await put("pred", [0, 1, 1, 1], 2);
    const folders = ["--gt", join(dir, "gt"), "--pred", join(dir, "pred")];
    assert.equal((JSON.parse(diptych("miou", ...folders, "--json").stdout) as { miou: number }).miou, 50);
    await put("pred", [0, 1, 1, 1], 1);
    const { status, stderr } = diptych("miou", ...folders);
    assert.notEqual(status, 0);
    assert.match(stderr, /The prediction for a\.png is 1 × 4, its truth 2 × 2\./);
  });
});
