import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { bytesOf } from "../cli/pack.js";
import { trainingEngine } from "./engine.js";

const bin = fileURLToPath(new URL("../../bin/diptych.cjs", import.meta.url));
/** What unpack.sh and the launcher call. */
const programs = ["sh", "cat", "tar", "gzip", "mkdir", "dirname", "sha256sum"];

describe("diptych runtime pack", function () {
  this.timeout(300_000);
  let dir: string;
  let env: NodeJS.ProcessEnv;
  before(async function () {
    const found = programs.map((p) =>
      (process.env.PATH ?? "")
        .split(delimiter)
        .map((f) => join(f, p))
        .find((f) => existsSync(f)),
    );
    const lacks = programs.filter((_, i) => !found[i]);
    if (lacks.length) {
      this.test!.parent!.title += ` (${lacks.join(", ")} not here)`;
      this.skip();
    }
    await trainingEngine();
    dir = mkdtempSync(join(tmpdir(), "pack-"));
    const path = join(dir, "bin");
    mkdirSync(path);
    programs.forEach((p, i) => symlinkSync(found[i]!, join(path, p)));
    env = { PATH: path, HOME: join(dir, "home"), DIPTYCH_DOWNLOAD: "never", NO_COLOR: "1" };
  });
  after(() => dir && rmSync(dir, { recursive: true }));
  /** A program as a machine has it that knows neither node nor a network. */
  const bare = (command: string, ...args: string[]) => spawnSync(command, args, { encoding: "utf8", cwd: dir, env });

  it("trains on a machine that has neither node, nor the library, nor a network", () => {
    const parcel = join(dir, "parcel");
    const packed = spawnSync(
      process.execPath,
      [bin, "runtime", "pack", "--out", parcel, "--part-size", "40M", "--json"],
      { encoding: "utf8" },
    );
    assert.equal(packed.status, 0, packed.stderr);
    const { parts } = JSON.parse(packed.stdout) as { parts: string[] };
    assert.ok(parts.length > 1);
    assert.deepEqual(readdirSync(parcel).sort(), ["SHA256SUMS", ...parts, "unpack.sh"].sort());
    const sizes = parts.map((p) => statSync(join(parcel, p)).size);
    assert.ok(
      sizes.every((s, i) => (i < sizes.length - 1 ? s === 40e6 : s <= 40e6)),
      sizes.join(),
    );

    assert.notEqual(bare("node", "--version").status, 0, "there is no node");
    const unpacked = bare("sh", join(parcel, "unpack.sh"), "there");
    assert.equal(unpacked.status, 0, unpacked.stderr);
    const diptych = join(dir, "there", "diptych");
    const list = bare(diptych, "recipes", "list");
    assert.equal(list.status, 0, list.stderr);
    assert.match(list.stdout, /^sample /m);
    const run = bare(
      diptych,
      ...["pretrain", "sample", "--out", "run", "--epochs", "1", "--limit", "16", "--batch-size", "8", "--size", "32"],
      ...["--threads", "1", "--engine", "training", "--set", "backbone.width=8", "--json"],
    );
    assert.equal(run.status, 0, run.stderr);
    const { steps, engine } = JSON.parse(run.stdout) as { steps: number; engine: string };
    assert.deepEqual([steps, engine], [2, "training"]);
    assert.ok(existsSync(join(dir, "run", "encoder.onnx")));

    const gpu = bare(join(dir, "there", "gpu"), "--device", "cpu", "--out", "gpu.json");
    assert.equal(gpu.status, 0, gpu.stderr);
    assert.equal((JSON.parse(readFileSync(join(dir, "gpu.json"), "utf8")) as { passed: boolean }).passed, true);

    truncateSync(join(parcel, parts[0]!), 1e6);
    const torn = bare("sh", join(parcel, "unpack.sh"), "torn");
    assert.notEqual(torn.status, 0);
    assert.match(torn.stderr, new RegExp(`${parts[0]}: FAILED`), "a part that was hurt on its way is named");
    assert.ok(!existsSync(join(dir, "torn")));
  });
  it("takes sizes in powers of 1000", () => {
    assert.deepEqual(["60M", "2K", "17"].map(bytesOf), [60e6, 2000, 17]);
    assert.throws(() => bytesOf("60 MB"), /Expected a size as 60M or 1G for --part-size but received 60 MB\./);
  });
});
