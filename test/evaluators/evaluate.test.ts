import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import sharp from "sharp";
import { evaluatorNamed, judged, table, type EvaluateFlags } from "../../cli/evaluate.js";
import { resolveOptions } from "../../cli/options.js";
import { dividedByClass, shareOf } from "../../evaluators/split.js";
import { encoderModel, initialWeights } from "../../graphs/encoder.js";
import { input, type Dim } from "../../src/onnx/graph.js";
import { toModel } from "../../src/onnx/model.js";
import { Add, AveragePool, ReduceMean } from "../../src/ops/index.js";
import { random } from "../../src/random.js";
import { trainingEngine } from "../engine.js";
import { tinyInfo } from "../tinyRun.js";

const info = tinyInfo("resnet18", { stem: "cifar", width: 4 });

describe("diptych evaluate", function () {
  this.timeout(120_000);
  let dir: string;
  const at = (...parts: string[]) => join(dir, ...parts);
  /** A 16 px picture, red or blue at its heart, of no other image's noise. */
  const picture = async (path: string, red: boolean, seed: number): Promise<void> => {
    mkdirSync(dirname(at(path)), { recursive: true });
    const r = random(seed, "picture");
    const pixels = Buffer.from(
      Array.from({ length: 3 * 256 }, (_, k) => (k % 3 === (red ? 0 : 2) ? 150 : 60) + r.integer(100)),
    );
    await sharp(pixels, { raw: { width: 16, height: 16, channels: 3 } })
      .png()
      .toFile(at(path));
  };
  before(async () => {
    dir = mkdtempSync(join(tmpdir(), "evaluate-"));
    writeFileSync(at("ours.onnx"), encoderModel(info, initialWeights(info, 1)));
    for (let i = 0; i < 24; i++) {
      await picture(`data/train/${i % 2 ? "red" : "blue"}/${i}.png`, i % 2 === 1, i);
      await picture(`data/val/${i % 2 ? "red" : "blue"}/${i}.png`, i % 2 === 1, i < 2 ? i : 100 + i); // two are in train, too
      await picture(`other/train/${i % 2 ? "red" : "blue"}/${i}.png`, i % 2 === 1, i);
      await picture(`other/val/${i % 2 ? "pink" : "blue"}/${i}.png`, i % 2 === 1, i);
      await picture(`flat/${i}.png`, i % 2 === 1, i);
      await picture(`single/red/${i}.png`, true, i);
    }
  });
  after(() => rmSync(dir, { recursive: true }));

  const flags = (data: string): EvaluateFlags => ({
    data: at(data),
    scratch: false,
    patches: 1,
    "patch-scale": 0.25,
    cache: false,
    say: () => undefined,
  });
  const evaluate = async (
    name: string,
    settings: string[] = [],
    encoder = "ours.onnx",
    more: Partial<EvaluateFlags> & { data?: string } = {},
  ) => {
    const evaluator = evaluatorNamed(name);
    const options = resolveOptions(name, evaluator, settings);
    const { data = "data", ...rest } = more;
    return judged(await trainingEngine(), evaluator, options, at(encoder), { ...flags(data), ...rest });
  };
  /** Mean colours: an encoder of other people's. */
  const foreign = (batch: Dim): Uint8Array => {
    const image = input("pixels", "float32", [batch, 3, 16, 16]);
    return toModel({ inputs: [image], outputs: { map: AveragePool(image, { kernel: [8, 8], strides: [8, 8] }) } });
  };

  it("sets random weights and raw pixels beside the encoder, says how, and tells of twins", async () => {
    const { notes, rows } = await evaluate("knn", ["k=1,5"]);
    assert.deepEqual(
      rows.map((r) => r.name),
      ["features", "random weights", "raw pixels"],
    );
    assert.equal(rows[2]!.metrics["top1@5"], 100, "colour tells these classes apart");
    const words = notes.join("\n");
    assert.match(words, /24 training and 24 test images, 2 classes/);
    assert.match(words, /BatchNorm in evaluation mode; short side 16, centre crop 16, normalised inside the encoder/);
    assert.match(words, /Warning: 2 test images look the same as a training image/);
    assert.match(words, /k = 1, 5/);
    assert.match(table(rows), /^ +top1@1 +top5@1 +se@1 .*\nfeatures /);
  });
  it("leaves out what cannot be read, and says so", async () => {
    mkdirSync(at("damaged/red"), { recursive: true });
    for (let i = 0; i < 6; i++) await picture(`damaged/${i % 2 ? "red" : "blue"}/${i}.png`, i % 2 === 1, i);
    writeFileSync(at("damaged/red/note.png"), "not a picture");
    const said: string[] = [];
    const { notes } = await evaluate("knn", ["k=1"], "ours.onnx", { data: "damaged", say: (line) => said.push(line) });
    assert.match(said.join("\n"), /red\/note\.png cannot be read and is left out/);
    assert.match(notes.join("\n"), /^6 images/);
  });
  it("takes other people's encoders, made for any batch or for one size of it, and averages maps", async () => {
    const scores = [];
    for (const [name, batch] of [
      ["any.onnx", "N"],
      ["fives.onnx", 5],
    ] as const) {
      writeFileSync(at(name), foreign(batch));
      const { rows, notes } = await evaluate("knn", ["k=3"], name);
      assert.match(notes.join("\n"), /output "map", averaged over its cells.*normalised not at all/);
      assert.match(notes.join("\n"), /No row of random weights/);
      scores.push(rows[0]!.metrics);
    }
    assert.deepEqual(scores[0], scores[1]);
    assert.equal(scores[0]!["top1@3"], 100);
  });
  it("fine-tunes an encoder of ours, and trains one from scratch beside it", async () => {
    const { rows } = await evaluate("finetune", ["epochs=12", "batchSize=8", "lr=0.3", "mixup=0", "cutmix=0.5"]);
    assert.deepEqual(
      rows.map((r) => r.name),
      ["trained on", "from scratch"],
    );
    assert.ok(rows[0]!.metrics.top1! >= 90, `top1 ${rows[0]!.metrics.top1}`);
  });
  it("sees bags of patches, and crops and flips for the linear probe", async () => {
    const { rows: whole } = await evaluate("knn", ["k=1"]);
    const bag = await evaluate("knn", ["k=1"], "ours.onnx", { patches: 3, "patch-scale": 1 });
    assert.deepEqual(bag.rows[0]!.metrics, whole[0]!.metrics, "patches that are the whole image say what it says");
    assert.match(bag.notes.join(), /mean over 3 patches of 1 of the area at 16 px/);
    const parts = await evaluate("knn", ["k=1"], "ours.onnx", { patches: 3, "patch-scale": 0.25 });
    assert.notDeepEqual(parts.rows[1]!.metrics, whole[1]!.metrics);
    const { rows } = await evaluate("linear", ["epochs=3", "lr=0.1,1", "views=2"]);
    assert.ok(rows.every((row) => row.metrics.top1! >= 0));
    await assert.rejects(evaluate("finetune", [], "ours.onnx", { patches: 3 }), /--patches averages features/);
  });
  it("computes features once, and anew where an image changed", async () => {
    const cache = at("cache");
    const before = process.env.XDG_CACHE_HOME;
    const engine = await trainingEngine();
    process.env.XDG_CACHE_HOME = cache;
    try {
      let runs = 0;
      const counting = {
        ...engine,
        session: (...args: Parameters<typeof engine.session>) => {
          if (args[0] instanceof Uint8Array && Buffer.from(args[0]).includes("layer4")) runs++;
          return engine.session(...args);
        },
      };
      const evaluator = evaluatorNamed("knn");
      const options = resolveOptions("knn", evaluator, ["k=1"]);
      const once = () => judged(counting, evaluator, options, at("ours.onnx"), { ...flags("data"), cache: true });
      const first = await once();
      const opened = runs;
      assert.deepEqual((await once()).rows, first.rows);
      assert.equal(runs, opened, "the second time no network runs");
      await picture("data/val/red/1.png", true, 999);
      await once();
      assert.equal(runs, opened + 2, "the changed split is seen by both networks");
      await picture("data/val/red/1.png", true, 1);
    } finally {
      if (before === undefined) delete process.env.XDG_CACHE_HOME;
      else process.env.XDG_CACHE_HOME = before;
    }
  });

  const mistakes: [what: string, run: () => Promise<unknown>, says: RegExp][] = [
    [
      "an unknown judge",
      () => evaluate("linaer"),
      /^Unknown judge "linaer"\. Did you mean linear\? Available: detection, finetune, /,
    ],
    [
      "an unknown option",
      () => evaluate("knn", ["temp=1"]),
      /^Unknown option of knn "temp"\. Available: k, temperature, vote\.$/,
    ],
    [
      "an unknown word",
      () => evaluate("knn", ["vote=most"]),
      /^Unknown vote "most"\. Available: majority, weighted\.$/,
    ],
    [
      "half a neighbour",
      () => evaluate("knn", ["k=1,2.5"]),
      /^Expected a whole number above 0 for k but received 2\.5\.$/,
    ],
    [
      "too many neighbours",
      () => evaluate("knn", ["k=25"]),
      /^25 neighbours are more than the bank has: 24 images\. Lower k\.$/,
    ],
    [
      "data without labels",
      () => evaluate("knn", [], "ours.onnx", { data: "flat" }),
      /flat has no labels to judge by: it needs a folder for each of two or more classes\.$/,
    ],
    [
      "one class only",
      () => evaluate("knn", [], "ours.onnx", { data: "single" }),
      /single has no labels to judge by: it needs a folder for each of two or more classes\.$/,
    ],
    [
      "a test split of other classes",
      () => evaluate("knn", [], "ours.onnx", { data: "other" }),
      /^Class "pink" of the test split of .*other is not among those of train\.$/,
    ],
    [
      "a model of two inputs",
      () => {
        const [a, b] = [input("left", "float32", [1, 3, 8, 8]), input("right", "float32", [1, 3, 8, 8])];
        writeFileSync(at("two.onnx"), toModel({ inputs: [a, b], outputs: { y: Add(a, b) } }));
        return evaluate("knn", [], "two.onnx");
      },
      /^An encoder has one input, the image; this model has 2: left, right\.$/,
    ],
    [
      "a model that takes no images",
      () => {
        const tokens = input("tokens", "float32", ["B", 77]);
        writeFileSync(at("text.onnx"), toModel({ inputs: [tokens], outputs: { y: ReduceMean(tokens) } }));
        return evaluate("knn", [], "text.onnx");
      },
      /^An encoder takes float32 images \[B,C,H,W\] of 1, 3 or 4 channels; input "tokens" of this model is float32 \[B,77\]\.$/,
    ],
    [
      "a mean without deviations",
      () => evaluate("knn", [], "ours.onnx", { mean: "0.5,0.5,0.5" }),
      /^--mean and --std belong together; only --mean was given\.$/,
    ],
    [
      "a picture asked of a judge of features",
      () => evaluate("knn", [], "ours.onnx", { picture: at("answers.png") }),
      /^--picture keeps what a judge of places found; this judge gives numbers alone\.$/,
    ],
    [
      "fine-tuning a foreign graph",
      () => {
        writeFileSync(at("foreign.onnx"), foreign("N"));
        return evaluate("finetune", [], "foreign.onnx");
      },
      /foreign\.onnx carries no network of ours, only a graph: it can be judged by its features alone\.$/,
    ],
  ];
  for (const [what, run, says] of mistakes)
    it(`answers ${what} with a sentence`, () =>
      assert.rejects(
        async () => run(),
        (e: Error) => says.test(e.message) || assert.fail(e.message),
      ));
});

describe("a part of every class", () => {
  it("holds the share of each class, at least one, and the same again", () => {
    const labels = Int32Array.from({ length: 105 }, (_, i) => (i < 100 ? i % 2 : 2));
    const { part, rest } = dividedByClass(labels, shareOf(0.1), 0, "test");
    const counts = [0, 1, 2].map((c) => [...part].filter((i) => labels[i] === c).length);
    assert.deepEqual(counts, [5, 5, 1]);
    assert.deepEqual(
      [...part, ...rest].sort((a, b) => a - b),
      [...labels.keys()],
    );
    assert.deepEqual(dividedByClass(labels, shareOf(0.1), 0, "test").part, part);
    assert.notDeepEqual(dividedByClass(labels, shareOf(0.1), 1, "test").part, part);
  });
});
