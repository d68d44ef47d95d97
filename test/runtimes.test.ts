import assert from "node:assert/strict";
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { install, portableLibrary, trainingLibrary } from "../src/runtimes.js";
import { trainingEngine } from "./engine.js";

/** A fetcher that runs `body` with the folder in argv[1]. */
const fetcher = (body: string): string[] => [
  process.execPath,
  "-e",
  `const fs = require("node:fs"), folder = process.argv[1]; ${body}`,
];

describe("runtimes", () => {
  let folder: string;
  const never = process.env.DIPTYCH_DOWNLOAD;
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), "runtimes-"))));
  afterEach(() => {
    rmSync(folder, { recursive: true });
    if (never === undefined) delete process.env.DIPTYCH_DOWNLOAD;
    else process.env.DIPTYCH_DOWNLOAD = never;
  });

  it("refuses to fetch where that is forbidden, and says how to get the library by hand", async () => {
    process.env.DIPTYCH_DOWNLOAD = "never";
    await assert.rejects(
      install({ folder }),
      /DIPTYCH_DOWNLOAD=never forbids fetching it\. Fetch onnxruntime-.*\.jar of org\.bytedeco:onnxruntime from Maven Central and give it as --library FILE/,
    );
  });
  it("leaves nothing behind of a jar that is not the pinned one", async () => {
    await assert.rejects(
      install({ folder, fetcher: fetcher('fs.writeFileSync(folder + "/x.jar", "not the jar")') }),
      /x\.jar is not the pinned one: its SHA-256 is/,
    );
    assert.deepEqual(readdirSync(folder), []);
  });
  it("gives up a download that stands still, after trying twice", async () => {
    const said: string[] = [];
    await assert.rejects(
      install({
        folder,
        patience: 300,
        announce: (s) => said.push(s),
        fetcher: fetcher('fs.writeFileSync(folder + "/x.jar", "half"); setInterval(() => {}, 1000)'),
      }),
      /stood still for 0\.3 s at 0\.0 MB\. Fetch onnxruntime/,
    );
    assert.deepEqual(readdirSync(folder), []);
    assert.ok(said.some((s) => s.includes("Trying once more.")));
  });
  it("passes on why a download failed", async () => {
    await assert.rejects(
      install({ folder, fetcher: fetcher('console.error("getaddrinfo ENOTFOUND"); process.exit(1)') }),
      /failed: getaddrinfo ENOTFOUND\./,
    );
  });
  it("names the platforms that it knows", async () => {
    await assert.rejects(
      install({ platform: "sunos-sparc", folder }),
      /There is no training library for sunos-sparc; there is one for linux-x64, linux-arm64, darwin-arm64, darwin-x64, win32-x64\./,
    );
  });
  it("ends in a sentence on an Intel Mac, where onnxruntime-node brings no library", () => {
    assert.throws(
      () => portableLibrary("darwin", "x64"),
      /onnxruntime-node brings no library for darwin-x64 \(Intel Mac\)\. Use the training engine/,
    );
  });
  it("takes a jar by hand, from two processes at once", async function () {
    const jar = process.env.DIPTYCH_TEST_JAR;
    if (!jar) {
      this.test!.title += " (set DIPTYCH_TEST_JAR to the jar)";
      this.skip();
    }
    copyFileSync(jar, join(folder, "ort.jar"));
    const paths = await Promise.all([1, 2].map(() => install({ folder, library: join(folder, "ort.jar") })));
    assert.equal(paths[0], paths[1]);
    assert.ok(existsSync(paths[0]!));
  });
  it("says when the file given by hand is not there", async () => {
    await assert.rejects(
      trainingLibrary({ library: join(folder, "none.so") }),
      /There is no ONNX Runtime library or jar at/,
    );
  });
  it("opens the training library that tests run on", async () => {
    assert.ok((await trainingEngine()).training);
  });
});
