import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { evaluatorNamed, judged, table } from "../../cli/evaluate.js";
import { resolveOptions } from "../../cli/options.js";
import { cocoEval, readDetections, readGroundTruth } from "../../evaluators/coco/index.js";
import { detection } from "../../evaluators/detection/index.js";
import { fitted, openDetection, type BoxedObject } from "../../evaluators/detection/folder.js";
import { moved, placed, viewsOf } from "../../evaluators/detection/views.js";
import { vocEval } from "../../evaluators/voc.js";
import { readVocAnnotations, readVocDetections } from "../../evaluators/vocFiles.js";
import { encoderModel, initialWeights } from "../../graphs/encoder.js";
import { readInitializers, readModel } from "../../src/onnx/model.js";
import { random } from "../../src/random.js";
import { trainingEngine } from "../engine.js";
import { judged as answered } from "../judged.js";
import { tinyInfo } from "../tinyRun.js";

const infoOf = (backbone: "resnet18" | "vitTiny", options: object) =>
  tinyInfo(backbone, options, { size: 64, resize: 64 });
const info = infoOf("resnet18", { width: 8 });
const [height, width] = [48, 64];

/** A scene of one or two rectangles, red or blue. */
interface Scene {
  name: string;
  objects: { name: "red" | "blue"; box: [x: number, y: number, w: number, h: number] }[];
}
const sceneOf = (split: string, i: number): Scene => {
  const r = random(0, split, i);
  const object = (left: number): Scene["objects"][number] => {
    const [w, h] = [14 + r.integer(14), 14 + r.integer(14)];
    return { name: r.uniform() < 0.5 ? "red" : "blue", box: [left + r.integer(32 - w), r.integer(height - h), w, h] };
  };
  return { name: `${split}${i}`, objects: r.uniform() < 0.5 ? [object(0), object(32)] : [object(16)] };
};

async function paint(file: string, { name, objects }: Scene): Promise<void> {
  mkdirSync(dirname(file), { recursive: true });
  const r = random(0, "ground", name);
  const pixels = Buffer.from(Array.from({ length: 3 * height * width }, () => 90 + r.integer(40)));
  for (const { name, box } of objects)
    for (let y = box[1]; y < box[1] + box[3]; y++)
      for (let x = box[0]; x < box[0] + box[2]; x++)
        pixels.set(name === "red" ? [230, 20, 20] : [20, 20, 230], 3 * (y * width + x));
  await sharp(pixels, { raw: { width, height, channels: 3 } })
    .png()
    .toFile(file);
}

describe("diptych evaluate detection", function () {
  this.timeout(300_000);
  let dir: string;
  const at = (...parts: string[]) => join(dir, ...parts);
  const write = (file: string, content: string | object): void => {
    mkdirSync(dirname(at(file)), { recursive: true });
    writeFileSync(
      at(file),
      typeof content === "string" || Buffer.isBuffer(content) ? content : JSON.stringify(content),
    );
  };
  /** COCO's file of some scenes: image ids are odd, categories 3 and 7. */
  const cocoOf = (scenes: Scene[], more: object[] = []) => ({
    images: scenes.map(({ name }, i) => ({ id: 2 * i + 1, file_name: `${name}.png`, height, width })),
    categories: [
      { id: 3, name: "red" },
      { id: 7, name: "blue" },
    ],
    annotations: [
      ...scenes.flatMap(({ objects }, i) =>
        objects.map(({ name, box }) => ({
          image_id: 2 * i + 1,
          category_id: name === "red" ? 3 : 7,
          bbox: box,
          area: box[2] * box[3],
          iscrowd: 0,
        })),
      ),
      ...more,
    ].map((a, i) => ({ id: i + 1, ...a })),
  });
  const vocOf = ({ objects }: Scene, size = `<size><width>${width}</width><height>${height}</height></size>`): string =>
    `<annotation>${size}${objects.map(({ name, box: [x, y, w, h] }) => `<object><name>${name}</name><bndbox><xmin>${x + 1}</xmin><ymin>${y + 1}</ymin><xmax>${x + w}</xmax><ymax>${y + h}</ymax></bndbox></object>`).join("")}</annotation>`;

  const [learned, asked] = (["train", "val"] as const).map((split, s) =>
    Array.from({ length: [40, 12][s]! }, (_, i) => sceneOf(split, i)),
  ) as [Scene[], Scene[]];
  before(async () => {
    dir = mkdtempSync(join(tmpdir(), "detection-"));
    for (const [split, scenes] of Object.entries({ train: learned, val: asked })) {
      for (const scene of scenes) {
        await paint(at(`coco/${split}2017/${scene.name}.png`), scene);
        await paint(at(`voc/JPEGImages/${scene.name}.png`), scene);
        write(`voc/Annotations/${scene.name}.xml`, vocOf(scene));
      }
      write(`voc/ImageSets/Main/${split}.txt`, scenes.map((s) => s.name).join("\n"));
    }
    write("coco/annotations/instances_train2017.json", cocoOf(learned));
    write("coco/annotations/instances_val2017.json", cocoOf(asked));
    write("coco/few.json", cocoOf(learned.slice(0, 8)));
    writeFileSync(at("ours.onnx"), encoderModel(info, initialWeights(info, 1)));
  });
  after(() => rmSync(dir, { recursive: true }));

  const small = [`height=${height + 16}`, `width=${width}`, "channels=32", "convs=1", "batchSize=4", "lr=0.05"];
  /** Two steps on eight images. */
  const quick = () => ["epochs=1", "trainFile=few.json", `images=${at("voc/JPEGImages")}`];
  const evaluate = async (data: string, settings: string[], more: object = {}, encoder = "ours.onnx") => {
    const evaluator = evaluatorNamed("detection");
    const options = resolveOptions("detection", evaluator, [...small, ...settings]);
    const flags = {
      data: at(data),
      scratch: false,
      cache: false,
      patches: 1,
      "patch-scale": 1,
      say: () => undefined,
      ...more,
    };
    return judged(await trainingEngine(), evaluator, options, at(encoder), flags);
  };

  it("learns coloured rectangles, and leaves a detector for onnxruntime-node, a picture, and results with the same score", async () => {
    const said: string[] = [];
    const { rows, notes } = await evaluate("coco", ["epochs=12", "schedule=cosine", "backbone=all"], {
      out: at("detector.onnx"),
      picture: at("found.png"),
      results: at("results.json"),
      say: (line: string) => said.push(line),
    });
    const { metrics, perClass } = rows[0]!;
    assert.ok(metrics.AP50! > 80, `AP50 ${metrics.AP50}`);
    assert.deepEqual(Object.keys(perClass!), ["red", "blue"]);
    assert.match(notes[0]!, /^COCO: training 40 images with \d+ objects, val 12 images with \d+ objects, 2 classes$/);
    assert.match(said.at(-1)!, /^epoch 12\/12: loss \d.* \(classes, boxes, centerness\)$/);

    const { data: truth } = readGroundTruth(at("coco/annotations/instances_val2017.json"), "bbox");
    const { data: found } = readDetections(at("results.json"), truth, "bbox");
    const { stats } = cocoEval(truth, found, { iouType: "bbox" });
    assert.deepEqual(
      [metrics.AP, metrics.AP50, metrics.AP75],
      [...stats.subarray(0, 3)].map((v) => 100 * v),
    );

    assert.deepEqual(JSON.parse(readModel(readFileSync(at("detector.onnx"))).metadata.classes!), ["red", "blue"]);
    const { data, info: size } = await sharp(at("coco/val2017/val0.png")).raw().toBuffer({ resolveWithObject: true });
    const planes = Uint8Array.from(
      data,
      (_, i) => data[3 * (i % (width * height)) + Math.floor(i / (width * height))]!,
    );
    const view = viewsOf([{ ...size, data: planes }], [false], { height: height + 16, width }, info.mean);
    const { boxes, scores, labels } = answered(at("detector.onnx"), view);
    const own = Array.from({ length: found.length }, (_, k) => k).filter((k) => found.image[k] === 0);
    assert.deepEqual(scores!.dims, [own.length]);
    assert.deepEqual(boxes!.dims, [own.length, 4]);
    own.forEach((k, row) => {
      assert.ok(Math.abs(scores!.data[row]! - found.score[k]!) < 1e-4);
      assert.equal(Number(labels!.data[row]), found.category[k]);
      assert.ok(Math.abs(boxes!.data[4 * row]! - found.boxes![4 * k]!) < 0.01);
    });
    const picture = await sharp(at("found.png")).metadata();
    assert.ok(picture.width > 2 * width && picture.height > 3 * height);
  });
  it("scores VOC's data by COCO's and by VOC's rules, with results that voc-eval reads", async () => {
    const { rows } = await evaluate("voc", ["epochs=2", "backbone=all"], { results: at("voc.json") });
    const classes = ["blue", "red"];
    assert.deepEqual(Object.keys(rows[0]!.perClass!), classes);
    const truth = readVocAnnotations(at("voc/Annotations"), at("voc/ImageSets/Main/val.txt"));
    assert.equal(vocEval(truth, readVocDetections(at("voc.json"), classes)).map, rows[0]!.metrics.vocAP50);
  });
  it("has no number where no object counts", async () => {
    write("coco/unlabelled.json", { ...cocoOf(asked.slice(0, 2)), annotations: [] });
    const settings = [...quick(), "testFile=unlabelled.json"];
    const { rows } = await evaluate("coco", settings);
    assert.deepEqual(rows[0]!.metrics, { AP: NaN, AP50: NaN, AP75: NaN });
    assert.deepEqual(rows[0]!.perClass, { red: NaN, blue: NaN });
    assert.match(table(rows), /( +–){3}$/);
  });
  it("says which training image is left out", async () => {
    const scenes = learned.slice(0, 8);
    for (const { name } of scenes) write(`coco/cut/${name}.png`, readFileSync(at(`coco/train2017/${name}.png`)));
    write("coco/cut/train3.png", readFileSync(at("coco/cut/train3.png")).subarray(0, 1000));
    write("coco/cut/val0.png", readFileSync(at("coco/val2017/val0.png")));
    write("coco/one.json", cocoOf(asked.slice(0, 1)));
    const said: string[] = [];
    const settings = [...quick(), "testFile=one.json", `images=${at("coco/cut")}`];
    await evaluate("coco", settings, { say: (line: string) => said.push(line) });
    assert.match(said[0]!, /train3\.png cannot be read and is left out: \S/);
  });
  it("leaves BatchNorm as it came and a frozen backbone whole, and says the same again", async () => {
    const given = initialWeights(info, 1);
    const trained = async (backbone: string): Promise<Buffer> => {
      await evaluate("coco", [...quick(), `backbone=${backbone}`], { out: at("after.onnx") });
      return readFileSync(at("after.onnx"));
    };
    const changed = (model: Buffer): string[] => {
      const after = readInitializers(model);
      return Object.keys(given).filter((name) => given[name]!.data.some((v, i) => v !== after[`backbone.body.${name}`]!.data[i])); // prettier-ignore
    };
    const fixed = await trained("fixedNorms");
    assert.deepEqual(
      changed(fixed).sort(),
      Object.keys(given).filter((name) => given[name]!.shape.length === 4).sort(), // prettier-ignore
    );
    assert.ok(fixed.equals(await trained("fixedNorms")));
    assert.deepEqual(changed(await trained("frozen")), []);
  });

  it("alone writes results", async () => {
    const quiet = { scratch: false, cache: false, patches: 1, "patch-scale": 1, say: () => undefined };
    const asked = { ...quiet, data: at("coco"), results: at("none.json") };
    const of = async (name: string) => judged(await trainingEngine(), evaluatorNamed(name), {}, at("ours.onnx"), asked);
    await assert.rejects(of("segmentation"), /--results keeps the boxes of detection; this judge finds none\./);
    await assert.rejects(of("knn"), /--results keeps what a judge of places found/);
  });

  describe("its data", () => {
    const open = (root: string, settings: string[] = []) =>
      openDetection(at(root), resolveOptions("detection", detection, settings));
    it("are the same objects in COCO's JSON and VOC's XML", () => {
      const [coco, voc] = [open("coco"), open("voc")];
      const named = ({ classes, train: { files, objects } }: typeof coco) =>
        files.map((f, i) => [f.split("/").at(-1), objects[i]!.map((o) => [classes[o.label], ...o.box])]);
      const sorted = (list: unknown[][]) => list.sort((a, b) => (String(a[0]) < String(b[0]) ? -1 : 1));
      assert.deepEqual(sorted(named(voc)), sorted(named(coco)));
      const { name, objects } = learned[0]!;
      const [x, y, w, h] = objects[0]!.box;
      const at0 = coco.train.files.findIndex((f) => f.endsWith(`${name}.png`));
      assert.deepEqual(coco.train.objects[at0]![0]!.box, [x, y, x + w, y + h]);
    });
    it("have their images in the folder of the split, or below the one that is named", () => {
      for (const split of ["train", "val"]) {
        const scene = split === "train" ? learned[0]! : asked[0]!;
        write(`${split}.json`, cocoOf([scene]));
        for (const root of ["plain", "named"])
          write(`${root}/annotations/instances_${split}2017.json`, cocoOf([scene]));
        write(`plain/images/${scene.name}.png`, "");
        write(`named/imgs/${split}2017/${scene.name}.png`, "");
      }
      const files = [`trainFile=${at("train.json")}`, `testFile=${at("val.json")}`];
      assert.deepEqual(open("plain", files).test.files, [at("plain/images/val0.png")]);
      assert.deepEqual(open("named", ["images=imgs"]).train.files, [at("named/imgs/train2017/train0.png")]);
      assert.throws(() => open("named"), /no folder of images for .*\(train2017, train, images\/train2017, images\/train, images\)\. Name the folder of the images with --set images\./); // prettier-ignore
    });
    it("leave out crowds, boxes without area and images without objects, and say so", () => {
      const crowd = { image_id: 1, category_id: 3, bbox: [0, 0, 40, 40], area: 900, iscrowd: 1 };
      const flat = { image_id: 1, category_id: 3, bbox: [5, 5, 0, 9], area: 0, iscrowd: 0 };
      const empty = { name: "train1", objects: [] };
      write("odd/annotations/instances_train2017.json", cocoOf([learned[0]!, empty], [crowd, flat]));
      write("odd/annotations/instances_val2017.json", cocoOf(asked, []));
      const { train, note } = open("odd", [
        `images=${at("coco/train2017")}`,
        `testFile=annotations/instances_train2017.json`,
      ]);
      assert.equal(train.files.length, 1);
      assert.equal(train.objects[0]!.length, learned[0]!.objects.length);
      assert.match(note, /training 1 images/);
      assert.match(note, /boxes without area, which are not learned: 2$/);
    });
    it("say what their annotations name and do not have", () => {
      const stray = { image_id: 999, category_id: 3, bbox: [0, 0, 9, 9], area: 81, iscrowd: 0 };
      write("coco/stray.json", cocoOf(asked, [stray]));
      const [, warning] = open("coco", ["testFile=stray.json", `images=${at("voc/JPEGImages")}`]).note.split("\n");
      assert.match(
        warning!,
        /stray\.json: 1 annotations of unknown images are left out \(first: annotations\[\d+\]\)\.$/,
      );
    });
    it("learn VOC's difficult objects, and judge none of them", () => {
      write("hard/Annotations/a.xml", vocOf(learned[0]!).replaceAll("</name>", "</name><difficult>1</difficult>"));
      for (const split of ["train", "val"]) write(`hard/ImageSets/Main/${split}.txt`, "a");
      write("hard/JPEGImages/deeper/a.png", "");
      const { train, test } = open("hard");
      assert.equal(train.objects[0]!.length, learned[0]!.objects.length);
      assert.ok(test.truth.crowd.every((c) => c === 1));
    });
    it("that cannot be used are answered with a sentence that names the file", async () => {
      assert.throws(() => open("nowhere"), /There is no folder .*nowhere\./);
      mkdirSync(at("bare"));
      assert.throws(() => open("bare"), /bare has neither Annotations\/ with VOC's XML nor annotations\/instances_train\*\.json\. Name the file with --set trainFile\./); // prettier-ignore
      write("two/annotations/instances_train2014.json", "");
      write("two/annotations/instances_train2017.json", "");
      assert.throws(() => open("two"), /has instances_train2014\.json, instances_train2017\.json\. Name the file/);
      write("gone/annotations/instances_train.json", cocoOf([{ name: "gone", objects: [] }]));
      mkdirSync(at("gone/train"));
      assert.throws(() => open("gone"), /gone\.png is not there, though .*instances_train\.json names it\./);
      write("nameless/annotations/instances_train.json", { ...cocoOf([]), images: [{ id: 1 }] });
      assert.throws(() => open("nameless"), /instances_train\.json: images\[0\].*has no file_name/);
      const images = [{ id: 5, file_name: "train0.png" }];
      write("shapeless/annotations/instances_train.json", { ...cocoOf([]), images });
      assert.throws(() => open("shapeless"), /instances_train\.json: image 5 has no width and height\./);
      const others = { ...cocoOf(asked), categories: [{ id: 3, name: "red" }] };
      write("coco/other.json", others);
      assert.throws(() => open("coco", [...quick(), "testFile=other.json"]), /categories of .*coco differ between training and val: 3 \(red\), 7 \(blue\) in the one, 3 \(red\) in the other\./); // prettier-ignore
      assert.throws(() => open("voc", ["split=test"]), /test\.txt is not there\. Choose another split with --set split, or name the list with --set testFile\./); // prettier-ignore
      write("sizeless/Annotations/a.xml", vocOf(learned[0]!, ""));
      for (const split of ["train", "val"]) write(`sizeless/ImageSets/Main/${split}.txt`, "a");
      write("sizeless/JPEGImages/a.png", "");
      assert.throws(() => open("sizeless"), /a\.xml has no size of its image with a width and a height\./);
      write("imageless/Annotations/a.xml", vocOf(learned[0]!));
      for (const split of ["train", "val"]) write(`imageless/ImageSets/Main/${split}.txt`, "a");
      mkdirSync(at("imageless/JPEGImages"));
      assert.throws(() => open("imageless"), /a\.xml has no image a below JPEGImages\./);
      write("none/annotations/instances_train.json", cocoOf([{ name: "train0", objects: [] }]));
      const settings = [`images=${at("coco/train2017")}`, "testFile=annotations/instances_train.json"];
      assert.throws(() => open("none", settings), /None of the 1 training images of .*none has an object\./);
      write("coco/empty.json", cocoOf([]));
      assert.throws(
        () => open("coco", [...quick(), "testFile=empty.json"]),
        /The val annotations of .*coco name no images\./,
      );
      const wrong = cocoOf(asked);
      wrong.images[0]!.width = 65;
      write("coco/wrong.json", wrong);
      const opened = (settings: string[]) =>
        detection.open(at("coco"), resolveOptions("detection", detection, settings));
      for (const file of ["trainFile", "testFile"])
        await assert.rejects(
          opened([`images=${at("voc/JPEGImages")}`, `${file}=wrong.json`]),
          /val0\.png is 64 × 48 pixels, but its annotation says 65 × 48\./,
        );
      const half = readFileSync(at("coco/val2017/val0.png")).subarray(0, 3000);
      for (const [folder, content] of Object.entries({ torn: "no image", cut: half }))
        write(`coco/${folder}/val0.png`, content);
      write("coco/torn.json", cocoOf([asked[0]!]));
      for (const folder of ["torn", "cut"])
        await assert.rejects(
          opened(["testFile=torn.json", "trainFile=torn.json", `images=${folder}`]),
          /val0\.png cannot be read: /,
        );
    });
    it("may be coco-mini421, or the same images as VOC has them", function () {
      const shared = process.env.DIPTYCH_SHARED ?? fileURLToPath(new URL("../../../../shared", import.meta.url));
      const folder = join(shared, "data", "coco-mini421");
      if (!existsSync(folder)) {
        this.test!.title += ` (${folder} is not there; DIPTYCH_SHARED names another place)`;
        this.skip();
      }
      const coco = openDetection(folder, detection.defaults);
      assert.equal(
        coco.note,
        "COCO: training 214 images with 2016 objects, val 206 images with 1765 objects, 80 classes",
      );
      const voc = openDetection(join(shared, "data", "coco-as-voc"), { ...detection.defaults, images: folder });
      assert.equal(voc.note, "VOC: training 173 images with 1009 objects, val 167 images with 938 objects, 20 classes");
    });
    it("need a backbone with stages", async () => {
      const vit = infoOf("vitTiny", { embedDim: 32, depth: 1, numHeads: 2, patchSize: 8 });
      writeFileSync(at("vit.onnx"), encoderModel(vit, initialWeights(vit, 0)));
      await assert.rejects(
        evaluate("coco", quick(), {}, "vit.onnx"),
        /vitTiny has no maps for a feature pyramid; resnet18, resnet34 and resnet50 have\./,
      );
    });
  });
});

describe("what a detector sees", () => {
  const view = { height: 4, width: 6 };
  it("is as large as fits, or squashed", () => {
    assert.deepEqual(fitted({ width: 12, height: 4 }, view, "keep"), { width: 6, height: 2 });
    assert.deepEqual(fitted({ width: 3, height: 3 }, view, "keep"), { width: 4, height: 4 });
    assert.deepEqual(fitted({ width: 12, height: 4 }, view, "squash"), view);
  });
  it("lies in the upper left corner, mirrored in itself, on a ground of the fill", () => {
    const image = { width: 2, height: 1, data: Uint8Array.of(51, 102, 0, 0, 255, 255) };
    const { data } = viewsOf([image, image], [false, true], { height: 2, width: 3 }, [0.5, 0.25, 0.75]);
    const near = (from: number, want: number[]) =>
      want.forEach((v, i) => assert.ok(Math.abs((data[from + i]! as number) - v) < 1e-6, `${from + i}`));
    near(0, [0.2, 0.4, 0.5, 0.5, 0.5, 0.5]);
    near(18, [0.4, 0.2, 0.5, 0.5, 0.5, 0.5]);
    near(12, [1, 1, 0.75, 0.75, 0.75, 0.75]);
  });
  it("moves its boxes with it; twice mirrored is where it was", () => {
    const object: BoxedObject = { box: [2, 1, 5, 3], label: 4 };
    const [own, now] = [{ width: 10, height: 4 }, { width: 5, height: 8 }]; // prettier-ignore
    assert.deepEqual(moved([object], own, now, false), [{ box: [1, 2, 2.5, 6], label: 4 }]);
    assert.deepEqual(moved([object], own, now, true), [{ box: [2.5, 2, 4, 6], label: 4 }]);
    assert.deepEqual(moved(moved([object], own, own, true), own, own, true), [object]);
  });
  it("has empty places where an image has fewer objects", () => {
    const { boxes, labels } = placed([[{ box: [1, 2, 3, 4], label: 0 }], []], 2);
    assert.deepEqual([...boxes.data], [1, 2, 3, 4, ...Array<number>(12).fill(0)]);
    assert.deepEqual([...labels.data].map(Number), [0, -1, -1, -1]);
  });
});
