import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  bytesSource,
  cocoEval,
  defaultParameters,
  readDetections,
  readGroundTruth,
  table,
  threePlaces,
  tide,
  type CocoResult,
  type Detections,
  type GroundTruth,
  type IouType,
  type Parameters,
} from "../../evaluators/coco/index.js";
import { perClass } from "../../evaluators/coco/perClass.js";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const fixtures = join(root, "test", "fixtures", "coco");
const shared = process.env.DIPTYCH_SHARED ?? join(root, "..", "shared");

/** pycocotools' names for what a case changes. */
interface Changes {
  useCats?: number;
  imgIds?: number[];
  catIds?: number[];
  maxDets?: number[];
  areaRng?: [number, number][];
}
interface Case {
  truth: string;
  results: string | null;
  iou: IouType;
  options: Changes;
  stats: number[];
  table: string[];
  precision: string;
  recall: string;
  scores: string;
}
interface Answers {
  cases: Case[];
  tide: {
    results: string;
    iou: IouType;
    AP: number;
    errors: Record<string, number>;
    counts: Record<string, number>;
  }[];
}
const answers = JSON.parse(readFileSync(join(fixtures, "answers.json"), "utf8")) as Answers;

const json = (name: string, value: unknown) => bytesSource(name, new TextEncoder().encode(JSON.stringify(value)));
function load(truth: string, results: string | null, iou: IouType): { gt: GroundTruth; dt: Detections } {
  const gt = readGroundTruth(join(fixtures, truth), iou).data;
  const found = results === null ? json("results", []) : join(fixtures, results);
  return { gt, dt: readDetections(found, gt, iou).data };
}
const parametersOf = (iouType: IouType, { useCats, imgIds, catIds, maxDets, areaRng }: Changes) => {
  const { areas } = defaultParameters(iouType);
  return {
    iouType,
    ...(useCats === 0 && { useCategories: false }),
    ...(imgIds && { images: imgIds }),
    ...(catIds && { categories: catIds }),
    ...(maxDets && { maxDets }),
    ...(areaRng && { areas: areaRng.map(([min, max], i) => ({ name: areas[i]!.name, min, max })) }),
  } satisfies Partial<Parameters>;
};
const sha256 = (values: Float64Array): string =>
  createHash("sha256")
    .update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    .digest("hex");

describe("coco-eval, beside pycocotools 2.0.11", () => {
  for (const { truth, results, iou, options, ...expected } of answers.cases)
    it(`gives every bit of ${iou}: ${results ?? "no detections"} ${JSON.stringify(options)}`, () => {
      const { gt, dt } = load(truth, results, iou);
      const result = cocoEval(gt, dt, parametersOf(iou, options));
      assert.deepEqual([...result.stats], expected.stats);
      assert.deepEqual(table(result.stats, result.parameters), expected.table);
      for (const name of ["precision", "recall", "scores"] as const)
        assert.equal(sha256(result[name]), expected[name], name);
    });

  for (const { results, iou, AP, errors, counts } of answers.tide)
    it(`finds tidecv's errors in ${results}, ${iou}`, () => {
      const { gt, dt } = load("instances.json", results, iou);
      const found = tide(gt, dt, { iouType: iou });
      assert.deepEqual(found.counts, counts);
      assert.ok(Math.abs(found.AP - AP) < 1e-9);
      for (const [name, gain] of Object.entries(errors))
        assert.ok(Math.abs(found.errors[name as keyof typeof found.errors] - gain) < 1e-9, name);
    });

  for (const [iou, expected] of Object.entries({
    bbox: "0.504581 0.696973 0.572982 0.585626 0.519400 0.501398 0.386813 0.593680 0.595353 0.639811 0.566421 0.564291",
    segm: "0.319545 0.562288 0.298927 0.387374 0.310183 0.326934 0.268230 0.415449 0.416839 0.469450 0.376759 0.381472",
  }))
    it(`gives the numbers of coco-eval-ref, ${iou}`, function () {
      const folder = join(shared, "data", "coco-eval-ref");
      if (!existsSync(folder)) {
        this.test!.title += ` (${folder} is not there; DIPTYCH_SHARED names another place)`;
        this.skip();
      }
      const gt = readGroundTruth(join(folder, "instances_val2014_100.json"), iou as IouType).data;
      const dt = readDetections(join(folder, `instances_val2014_fake${iou}100_results.json`), gt, iou as IouType).data;
      const { stats } = cocoEval(gt, dt, { iouType: iou as IouType });
      assert.equal([...stats].map((s) => s.toFixed(6)).join(" "), expected);
    });
  it("gives the numbers of a real detector on coco-mini421", function () {
    const folder = join(shared, "data", "coco-mini421");
    if (!existsSync(folder)) {
      this.test!.title += ` (${folder} is not there; DIPTYCH_SHARED names another place)`;
      this.skip();
    }
    const gt = readGroundTruth(join(folder, "annotations", "instances_val2017.json"), "bbox").data;
    const dt = readDetections(join(folder, "reference", "cocossd_mobilenetv2_val2017_bbox.json"), gt, "bbox").data;
    const { stats, parameters } = cocoEval(gt, dt, { iouType: "bbox" });
    const printed = readFileSync(join(folder, "reference", "pycocotools_output.txt"), "utf8");
    for (const line of table(stats, parameters)) assert.ok(printed.includes(line), line);
  });
});

describe("coco-eval by itself", () => {
  const image = { id: 1, width: 100, height: 100 };
  const categories = [
    { id: 1, name: "a" },
    { id: 2, name: "b" },
  ];
  const object = (id: number, bbox: number[], category_id = 1, more = {}) => ({
    id,
    image_id: 1,
    category_id,
    bbox,
    area: bbox[2]! * bbox[3]!,
    iscrowd: 0,
    ...more,
  });
  const detection = (bbox: number[], score: number, category_id = 1) => ({ image_id: 1, category_id, bbox, score });
  const evaluate = (annotations: object[], results: object[]): CocoResult => {
    const gt = readGroundTruth(json("gt", { images: [image], annotations, categories }), "bbox").data;
    return cocoEval(gt, readDetections(json("dt", results), gt, "bbox").data, { iouType: "bbox" });
  };
  const near = (value: number, expected: number): void => assert.ok(Math.abs(value - expected) < 1e-12, `${value}`);
  const left = [0, 0, 20, 20];
  const right = [50, 50, 20, 20];

  it("gives 1 to detections that are the objects", () => {
    const { stats } = evaluate([object(1, left), object(2, right)], [detection(left, 0.9), detection(right, 0.8)]);
    for (const i of [0, 3, 8]) near(stats[i]!, 1);
    assert.equal(stats[4], -1, "no medium objects");
  });
  it("gives 51 of 101 recalls to one of two objects", () =>
    near(evaluate([object(1, left), object(2, right)], [detection(left, 0.9)]).stats[1]!, 51 / 101));
  it("gives half the precision behind a false positive", () => {
    const { stats } = evaluate([object(1, left)], [detection(right, 0.9), detection(left, 0.8)]);
    near(stats[0]!, 0.5);
  });
  it("does not count what lies in a crowd", () => {
    const crowd = object(2, [40, 40, 60, 60], 1, { iscrowd: 1 });
    const { stats } = evaluate([object(1, left), crowd], [detection(right, 0.9), detection(left, 0.8)]);
    near(stats[0]!, 1);
  });
  it("keeps categories apart, each with its own numbers", () => {
    const result = evaluate([object(1, left), object(2, right, 2)], [detection(left, 0.9), detection(left, 0.9, 2)]);
    const [a, b] = perClass(result);
    near(a!.AP, 1);
    assert.deepEqual([a!.name, b!.name, b!.AP], ["a", "b", 0]);
  });
  it("rounds to three places as Python does", () =>
    assert.deepEqual([0.0625, 0.1875, 0.3125, 0.5, 0.0005, -1].map(threePlaces), [
      "0.062",
      "0.188",
      "0.312",
      "0.500",
      "0.001",
      "-1.000",
    ]));

  it("remarks on what pycocotools passes in silence, each kind once", () => {
    const gt = readGroundTruth(
      json("gt.json", {
        images: [image],
        categories,
        annotations: [object(1, left), { ...object(2, right), image_id: 9 }, object(3, left, 7), object(0, right)],
      }),
      "bbox",
    );
    assert.deepEqual(gt.warnings, [
      "gt.json: 1 annotations of unknown images are left out (first: annotations[1]).",
      "gt.json: 1 annotations of unknown categories are left out (first: annotations[2]).",
      "gt.json: 1 annotation has id 0: what it matches counts as unmatched, as in pycocotools (first: annotations[3]).",
    ]);
    const text = `[${[
      detection(left, 0.5, 7),
      detection(left, 0.5, 7),
      detection([90, 90, 20, 20], 0.5),
      detection([5, 5, 0, 20], 0.5),
    ]
      .map((d) => JSON.stringify(d))
      .join()}, {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": NaN}]`;
    const dt = readDetections(bytesSource("dt.json", new TextEncoder().encode(text)), gt.data, "bbox");
    assert.deepEqual(dt.warnings, [
      "dt.json: 2 detections of unknown categories are left out (first: results[0]).",
      "dt.json: 1 boxes reach more than a pixel out of their image (first: results[2]).",
      "dt.json: 1 boxes have no area and match nothing (first: results[3]).",
      "dt.json: 1 scores are not finite; NaN ranks last (first: results[4]).",
    ]);
  });
});
