import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { readSafetensors } from "../src/artifacts/safetensors.js";
import { readCheckpoint } from "../src/artifacts/odtc.js";
import { loadCheckpoint } from "../src/checkpoints.js";
import { readModel } from "../src/onnx/model.js";
import { random } from "../src/random.js";
import { trainingEngine } from "./engine.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const bin = join(root, "bin", "diptych.cjs");
/** Where commands run: what they leave at their usual places stays out of the repository. */
const workplace = mkdtempSync(join(tmpdir(), "workplace-"));

function diptych(args: string[], env: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [bin, ...args], {
    encoding: "utf8",
    cwd: workplace,
    env: { ...process.env, NO_COLOR: "1", COLUMNS: "500", ...env },
  });
  return { status, stdout, stderr };
}
/** What was said, without the line breaks that a terminal would get. */
const words = (text: string): string => text.replace(/\s*\n\s*(›|»)?\s*/g, " ");

describe("diptych pretrain", function () {
  this.timeout(300_000);
  let dir: string;
  let photos: string;
  before(async () => {
    await trainingEngine(); // the library is there before anything is timed
    dir = mkdtempSync(join(tmpdir(), "diptych-"));
    photos = join(dir, "photos");
    const r = random(0, "photos");
    for (let i = 0; i < 40; i++) {
      const folder = join(photos, ["blue", "red"][i % 2]!);
      mkdirSync(folder, { recursive: true });
      const noise = Buffer.from(
        Array.from({ length: 3 * 24 * 20 }, (_, k) => (k % 3 === (i % 2) * 2 ? 200 : 60) + r.integer(50)),
      );
      await sharp(noise, { raw: { width: 24, height: 20, channels: 3 } })
        .png()
        .toFile(join(folder, `${i}.png`));
    }
  });
  after(() => [dir, workplace].forEach((d) => rmSync(d, { recursive: true })));

  const small = (out: string, ...more: string[]): string[] => [
    "pretrain",
    "densecl-r18-64",
    "--data",
    photos,
    "--out",
    out,
    "--size",
    "16",
    "--batch-size",
    "8",
    "--epochs",
    "4",
    "--threads",
    "2",
    ...[
      "backbone.width=4",
      "method.queueSize=64",
      "method.hiddenDim=16",
      "method.outDim=8",
      "checkpoint.everySteps=3",
      "checkpoint.keep=3",
      "evaluate.everyEpochs=2",
    ].flatMap((s) => ["--set", s]),
    ...more,
  ];
  /** Everything that a run ends with: weights, queue, teacher, statistics. */
  function ending(run: string) {
    const steps = readdirSync(join(run, "checkpoints")).sort((a, b) => Number(b.slice(5)) - Number(a.slice(5)));
    const at = join(run, "checkpoints", steps[0]!);
    return {
      ...readCheckpoint(readFileSync(join(at, "checkpoint"))),
      state: readSafetensors(readFileSync(join(at, "state.safetensors"))).tensors,
    };
  }
  const logged = (run: string): number[] =>
    readFileSync(join(run, "metrics.jsonl"), "utf8")
      .trim()
      .split("\n")
      .flatMap((l) => {
        const { step } = JSON.parse(l) as { step?: number };
        return step === undefined ? [] : [step];
      });

  it("leaves an encoder, weights, metrics and a report, and prints one object", () => {
    const out = join(dir, "whole");
    const { status, stdout, stderr } = diptych([...small(out), "--json"]);
    assert.equal(status, 0, stderr);
    const result = JSON.parse(stdout) as { steps: number; engine: string; knn: { pixels: number }; encoder: string };
    assert.equal(result.steps, 20);
    assert.equal(result.engine, "training");
    assert.ok(result.knn.pixels >= 0);
    for (const file of [
      "recipe.json",
      "encoder.onnx",
      "encoder.safetensors",
      "report.html",
      "log.txt",
      readdirSync(out).find((f) => f.startsWith("events.out.tfevents."))!,
      "artifacts/training_model.onnx",
      "artifacts/manifest.json",
    ])
      assert.ok(existsSync(join(out, file)), file);
    const model = readModel(readFileSync(join(out, "encoder.onnx")));
    assert.deepEqual(model.inputs, [{ name: "image", dtype: 1, shape: ["B", 3, "H", "W"] }]);
    assert.deepEqual(
      model.outputs.map((o) => o.name),
      ["features", "map"],
    );
    assert.ok(
      model.ops.every((op) => !op.includes(".")),
      `standard ops only, got ${model.ops.join(" ")}`,
    );
    assert.deepEqual(
      logged(out),
      Array.from({ length: 20 }, (_, i) => i + 1),
    );
  });

  it("makes a report that needs nothing else, again from the folder, and sets runs side by side", () => {
    const run = join(dir, "whole");
    const page = (): string => readFileSync(join(run, "report.html"), "utf8");
    const first = page();
    assert.ok(first.length < 2e6, `${first.length} bytes`);
    assert.doesNotMatch(first, /(src|href)="(?!data:)|url\(|<script|@import/);
    for (const part of [
      "kNN top1, %",
      "raw pixels",
      "effective rank",
      "Nearest neighbours",
      "Dense features",
      "Versions",
    ])
      assert.ok(first.includes(part), part);
    assert.equal(first.match(/<img src="data:image\/(jpeg|png);base64,/g)!.length, 6 * 6 + 6 * 2);
    rmSync(join(run, "report.html"));
    const shown = diptych(["report", "show", run, "--threads", "2", "--json"]);
    assert.equal(shown.status, 0, shown.stderr);
    assert.deepEqual(JSON.parse(shown.stdout), { report: join(run, "report.html") });
    assert.equal(page(), first);

    const out = join(dir, "compare.html");
    const { status, stdout } = diptych(["report", "compare", run, run, "--out", out]);
    assert.equal(status, 0);
    assert.match(stdout, /^run +method .*\nwhole +densecl +resnet18 +4 +20 .*\nwhole +densecl/);
    assert.equal(readFileSync(out, "utf8").match(/class="line c[01]"/g)!.length % 2, 0);
  });

  it("continues bit for bit after SIGKILL at a random step", async () => {
    const out = join(dir, "killed");
    const child = spawn(process.execPath, [bin, ...small(out)], { cwd: workplace, stdio: "ignore" });
    const kill = 7 + random(Date.now(), "kill").integer(8);
    await new Promise<void>((done, fail) => {
      const watch = setInterval(() => {
        const file = join(out, "metrics.jsonl");
        const lines = existsSync(file)
          ? readFileSync(file, "utf8")
              .split("\n")
              .filter((l) => l.startsWith('{"step"')).length
          : 0;
        if (lines >= kill) child.kill("SIGKILL");
      }, 5);
      child.on("exit", (_code, signal) => {
        clearInterval(watch);
        if (signal === "SIGKILL") done();
        else fail(new Error("the run ended before it was killed"));
      });
    });
    const died = Math.max(...logged2(out));
    const kept = Math.max(
      ...readdirSync(join(out, "checkpoints")).flatMap((f) => (f.startsWith("step-") ? [Number(f.slice(5))] : [])),
    );
    assert.ok(kept >= 3, "a checkpoint precedes the kill");
    assert.ok(died + (20 - kept) <= 20 + 3, `${died} steps before, ${20 - kept} after`);
    const resumed = diptych(["pretrain", "--resume", "--out", out, "--threads", "2", "--json"]);
    assert.equal(resumed.status, 0, resumed.stderr);
    assert.match(resumed.stderr, new RegExp(`Resuming at step ${kept}\\.`));
    assert.deepEqual(
      logged(out),
      Array.from({ length: 20 }, (_, i) => i + 1),
    );
    assert.deepEqual(ending(out), ending(join(dir, "whole")));
  });
  /** Steps in a log whose last line may be torn. */
  function logged2(run: string): number[] {
    return readFileSync(join(run, "metrics.jsonl"), "utf8")
      .split("\n")
      .flatMap((l) => (/^\{"step":(\d+),/.test(l) ? [Number(/^\{"step":(\d+),/.exec(l)![1])] : []));
  }

  it("accumulates batches to one update: the same as one larger batch, and resumed bit for bit between updates", () => {
    const run = (out: string, batch: number, accumulate: number) => {
      const settings = ["method.name=mocov2", "method.bnGroups=1", "method.queueSize=64", "method.outDim=8"].concat(
        ["backbone.name=vitTiny", "backbone.embedDim=16", "backbone.depth=1", "backbone.numHeads=2"],
        ["backbone.patchSize=4", "checkpoint.everySteps=3", "checkpoint.keep=9", `accumulate=${accumulate}`],
      );
      const flags = ["--data", photos, "--size", "16", "--epochs", "2", "--threads", "2", "--json"];
      const { status, stderr } = diptych([
        ...["pretrain", "photos", "--out", out, "--batch-size", String(batch), ...flags],
        ...settings.flatMap((s) => ["--set", s]),
      ]);
      assert.equal(status, 0, stderr);
      return ending(out);
    };
    const [whole, parts, resumed] = ["whole-batch", "accumulated", "accumulated-resumed"].map((n) => join(dir, n));
    const [a, b] = [run(whole!, 8, 1), run(parts!, 2, 4)];
    assert.deepEqual(logged(parts!), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    for (const [name, t] of Object.entries({ ...a.trainable, ...a.state })) {
      const other = { ...b.trainable, ...b.state }[name]!;
      t.data.forEach((v, i) => {
        assert.ok(Math.abs(Number(v) - Number(other.data[i])) < 1e-5, `${name}[${i}]: ${v} and ${other.data[i]}`);
      });
    }
    cpSync(parts!, resumed!, { recursive: true });
    for (const step of [6, 9, 10]) rmSync(join(resumed!, "checkpoints", `step-${step}`), { recursive: true });
    const { status, stderr } = diptych(["pretrain", "--resume", "--out", resumed!, "--threads", "2", "--json"]);
    assert.equal(status, 0, stderr);
    assert.match(stderr, /Resuming at step 3\./);
    assert.deepEqual(ending(resumed!), b);
  });

  it("stops cleanly at Ctrl-C, with a checkpoint", async () => {
    const out = join(dir, "stopped");
    const child = spawn(process.execPath, [bin, ...small(out)], { cwd: workplace, stdio: "ignore" });
    const watch = setInterval(
      () => !child.killed && existsSync(join(out, "checkpoints", "step-6")) && child.kill("SIGINT"),
      5,
    );
    const code = await new Promise((done) => child.on("exit", done));
    clearInterval(watch);
    assert.equal(code, 0);
    const steps = Math.max(...logged(out));
    assert.ok(existsSync(join(out, "checkpoints", `step-${steps}`)));
    assert.ok(steps < 20);
  });

  it("runs on the portable engine, with the same files", () => {
    const out = join(dir, "portable");
    const { status, stderr } = diptych([...small(out), "--engine", "portable", "--json"]);
    assert.equal(status, 0, stderr);
    assert.deepEqual(Object.keys(ending(out).trainable), Object.keys(ending(join(dir, "whole")).trainable));
  });

  it("starts from weights by name, and says what matched", () => {
    const out = join(dir, "init");
    const { status, stderr } = diptych([...small(out), "--limit", "16", "--init", join(dir, "whole", "encoder.onnx")]);
    assert.equal(status, 0, stderr);
    assert.match(words(stderr), /100 tensors matched, 0 of the network start fresh, 0 of the file unused/);
  });

  it("ends in one sentence where a checkpoint finds no room, and goes on from the one before once there is", async function () {
    if (spawnSync("prlimit", ["--version"]).status !== 0) {
      this.test!.title += " (prlimit of util-linux is not here)";
      this.skip();
    }
    const out = join(dir, "full");
    const longer = small(out).map((arg) => (arg === "4" ? "30" : arg)); // epochs
    const child = spawn(process.execPath, [bin, ...longer], {
      cwd: workplace,
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
    const exited = new Promise<number | null>((done) => child.on("exit", done));
    while (!existsSync(join(out, "checkpoints", "step-6")) && child.exitCode === null)
      await new Promise((done) => setTimeout(done, 5));
    // no file may grow past 100 kB from here on: a write stops half-way, as on a full disk
    const limited = spawnSync("prlimit", ["--pid", String(child.pid), "--fsize=100000"], { encoding: "utf8" });
    assert.equal(limited.status, 0, limited.stderr + said);
    assert.equal(await exited, 1);
    assert.match(
      words(said),
      /Checkpoint .*step-\d+ could not be written: EFBIG.* Earlier checkpoints are untouched\./,
    );
    assert.doesNotMatch(said, /\n\s+at /, "no stack trace");
    const folders = readdirSync(join(out, "checkpoints"));
    assert.ok(folders.length > 0 && folders.every((f) => /^step-\d+$/.test(f)), folders.join(" "));
    for (const f of folders) await loadCheckpoint(join(out, "checkpoints"), Number(f.slice(5)));
    const newest = Math.max(...folders.map((f) => Number(f.slice(5))));
    const resumed = diptych(["pretrain", "--resume", "--out", out, "--threads", "2", "--json"]);
    assert.equal(resumed.status, 0, resumed.stderr);
    assert.match(resumed.stderr, new RegExp(`Resuming at step ${newest}\\.`));
    assert.deepEqual(
      logged(out),
      Array.from({ length: 150 }, (_, i) => i + 1),
    );
  });
  it("ends in one sentence where the log finds no room", function () {
    if (!existsSync("/dev/full")) {
      this.test!.title += " (there is no /dev/full here)";
      this.skip();
    }
    const out = join(dir, "full-log");
    mkdirSync(out);
    symlinkSync("/dev/full", join(out, "log.txt"));
    const { status, stderr } = diptych(small(out));
    assert.equal(status, 1);
    assert.match(words(stderr), /log\.txt could not be written: the disk is full\./);
    assert.doesNotMatch(stderr, /\n\s+at /, "no stack trace");
  });

  const mistakes: [what: string, args: () => string[], says: RegExp][] = [
    [
      "an empty folder",
      () => (mkdirSync(join(dir, "empty"), { recursive: true }), ["pretrain", "--data", join(dir, "empty")]),
      /Expected images .* but found nothing\./,
    ],
    [
      "a folder of text files",
      () => (
        mkdirSync(join(dir, "texts"), { recursive: true }),
        writeFileSync(join(dir, "texts", "a.txt"), "hello"),
        ["pretrain", "--data", join(dir, "texts")]
      ),
      /but found 1 other files \(a\.txt\)\./,
    ],
    ["a folder that is not there", () => ["pretrain", "--data", join(dir, "nowhere")], /There is no folder/],
    ["a file for a folder", () => ["pretrain", "--data", bin], /Expected a folder of images but .* is a file\./],
    ["no data", () => ["pretrain"], /Recipe photos needs a folder of images: --data DIR\./],
    [
      "an unknown recipe",
      () => ["pretrain", "dencecl-r18-64"],
      /Unknown recipe "dencecl-r18-64"\. Did you mean densecl-r18-64\? Available: /,
    ],
    [
      "an unknown method",
      () => ["pretrain", "photos", "--data", photos, "--set", "method.name=dencecl"],
      /Unknown method "dencecl"\. Did you mean densecl\? Available: .*densecl, .*mocov2, /,
    ],
    [
      "an unknown option",
      () => ["pretrain", "photos", "--data", photos, "--set", "method.temprature=0.1"],
      /Unknown option of method "temprature"\. Did you mean temperature\?/,
    ],
    [
      "a value of the wrong type",
      () => ["pretrain", "photos", "--data", photos, "--set", "batchSize=many"],
      /Expected a number for batchSize but received "many"\./,
    ],
    [
      "a batch of nothing",
      () => ["pretrain", "photos", "--data", photos, "--set", "batchSize=0"],
      /Expected a number above 0 for batchSize but received 0\./,
    ],
    [
      "a batch larger than the data",
      () => ["pretrain", "photos", "--data", photos, "--out", join(dir, "large"), "--batch-size", "64"],
      /A batch of 64 is larger than the data: 40 images\. Lower it with --batch-size\./,
    ],
    [
      "more batches an update than there are images for",
      () => [
        "pretrain",
        "photos",
        "--data",
        photos,
        "--out",
        join(dir, "many"),
        "--batch-size",
        "8",
        "--set",
        "accumulate=6",
      ],
      /6 batches of 8 are more than the data: 40 images\. Lower accumulate, or --batch-size\./,
    ],
    [
      "a run folder that is taken",
      () => ["pretrain", "photos", "--data", photos, "--out", join(dir, "whole")],
      /holds a run of densecl-r18-64 with other settings\. Continue it with --resume, or choose another --out\./,
    ],
    [
      "a resumed run of another recipe",
      () => ["pretrain", "photos", "--resume", "--out", join(dir, "whole")],
      /belongs to recipe densecl-r18-64, not photos\./,
    ],
    [
      "other settings at resume",
      () => ["pretrain", "--resume", "--out", join(dir, "whole"), "--epochs", "9"],
      /cannot be resumed with other settings than its own\./,
    ],
    ["nothing to resume", () => ["pretrain", "--resume", "--out", photos], /is not a run: it has no recipe\.json\./],
    [
      "a library without the training API",
      () => [
        "pretrain",
        "photos",
        "--data",
        photos,
        "--engine",
        "training",
        "--library",
        join(root, "node_modules/onnxruntime-node/bin/napi-v6", process.platform, process.arch, "libonnxruntime.so.1"),
      ],
      /has no training API/,
    ],
    [
      "a library that is none",
      () => ["pretrain", "photos", "--data", photos, "--library", bin],
      /does not load as an ONNX Runtime library on/,
    ],
  ];
  for (const [what, args, says] of mistakes)
    it(`answers ${what} with one sentence and a non-zero exit`, () => {
      const { status, stderr } = diptych(args());
      assert.notEqual(status, 0);
      assert.match(words(stderr), says);
      assert.doesNotMatch(stderr, /\n\s+at /, "no stack trace");
      assert.ok(!existsSync(join(workplace, "runs")), "leaves no run behind");
    });

  it("answers a folder that may not be read", function () {
    if (process.getuid?.() === 0) {
      this.test!.title += " (root reads everything)";
      this.skip();
    }
    const locked = join(dir, "locked");
    mkdirSync(locked);
    chmodSync(locked, 0);
    const { status, stderr } = diptych(["pretrain", "--data", locked]);
    chmodSync(locked, 0o700);
    assert.notEqual(status, 0);
    assert.match(words(stderr), /cannot be read: permission denied/);
  });

  it("goes on with a run that was begun before an option existed, and says so", () => {
    const run = join(dir, "earlier");
    cpSync(join(dir, "whole"), run, { recursive: true });
    const file = join(run, "recipe.json");
    const recipe = JSON.parse(readFileSync(file, "utf8")) as { data: Record<string, unknown> };
    delete recipe.data.channels;
    writeFileSync(file, JSON.stringify(recipe));
    const { status, stderr } = diptych(["pretrain", "--resume", "--out", run, "--threads", "2"]);
    assert.equal(status, 0, stderr);
    assert.match(words(stderr), /earlier was begun before there was data\.channels: it goes on with the default\./);
  });

  it("replaces a corrupt photograph and goes on", () => {
    const folder = join(dir, "hurt");
    mkdirSync(folder);
    for (const [i, f] of readdirSync(join(photos, "red")).entries())
      writeFileSync(join(folder, f), i === 3 ? "not a picture" : readFileSync(join(photos, "red", f)));
    const out = join(dir, "hurt-run");
    const args = small(out).map((a) => (a === photos ? folder : a));
    const { status, stderr } = diptych([...args, "--json"]);
    assert.equal(status, 0, stderr);
    assert.match(stderr, /\.png cannot be read and is replaced: /);
    const progress = JSON.parse(
      readFileSync(join(out, "checkpoints", readdirSync(join(out, "checkpoints"))[0]!, "progress.json"), "utf8"),
    ) as { broken: number[] };
    assert.equal(progress.broken.length, 1);
  });

  it("falls back to an older checkpoint where the newest is cut short", () => {
    const out = join(dir, "stopped");
    const steps = readdirSync(join(out, "checkpoints"))
      .map((f) => Number(f.slice(5)))
      .sort((a, b) => b - a);
    truncateSync(join(out, "checkpoints", `step-${steps[0]}`, "state.safetensors"), 10);
    const { status, stderr } = diptych(["pretrain", "--resume", "--out", out, "--threads", "2", "--json"]);
    assert.equal(status, 0, stderr);
    if (steps.length > 1) assert.match(stderr, new RegExp(`Resuming at step ${steps[1]}\\.`));
    assert.match(words(stderr), /state\.safetensors cannot be used: Not a safetensors file/);
    assert.deepEqual(ending(out), ending(join(dir, "whole")));
  });
});
