import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { crc32 } from "node:zlib";
import { engineFor } from "../cli/engine.js";
import { openEngine } from "../src/engines/native/index.js";
import { install, portableLibrary, trainingLibrary, type RuntimeOptions } from "../src/runtimes.js";
import { trainingEngine } from "./engine.js";

/** A fetcher that runs `body` with the folder in argv[1]. */
const fetcher = (body: string): string[] => [
  process.execPath,
  "-e",
  `const fs = require("node:fs"), folder = process.argv[1]; ${body}`,
];

/** What stands for a library. */
const content = Buffer.alloc(300_000, "library ");
const linuxEntry = "org/bytedeco/onnxruntime/linux-x86_64/libonnxruntime.so.1";

/** A jar (a zip) that holds `content`, stored, as one entry. */
function fakeJar(folder: string, entry: string): { jar: string; sha256: string } {
  const name = Buffer.from(entry);
  /** Fields that the local and the central header share: version, flags, method, time, date, CRC, sizes, length of the name, extra. */
  const shared = Buffer.alloc(26);
  shared.writeUInt16LE(10, 0);
  shared.writeUInt32LE(crc32(content), 10);
  shared.writeUInt32LE(content.length, 14);
  shared.writeUInt32LE(content.length, 18);
  shared.writeUInt16LE(name.length, 22);
  const local = Buffer.concat([Buffer.from("PK\x03\x04"), shared, name, content]);
  const central = Buffer.concat([Buffer.from("PK\x01\x02\x0a\x00"), shared, Buffer.alloc(14), name]);
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06");
  end.writeUInt16LE(1, 8);
  end.writeUInt16LE(1, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(local.length, 16);
  const bytes = Buffer.concat([local, central, end]);
  const jar = join(folder, "fake.jar");
  writeFileSync(jar, bytes);
  return { jar, sha256: createHash("sha256").update(bytes).digest("hex") };
}

/** trainingLibrary in a process of its own: the process, and the path that it prints. */
function inAnotherProcess(options: object) {
  const module = new URL("../src/runtimes.js", import.meta.url).href;
  const program = `import { trainingLibrary } from ${JSON.stringify(module)};
    console.log(await trainingLibrary(${JSON.stringify(options)}));`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const path = new Promise<string>((done, fail) => {
    let out = "";
    child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
    child.on("close", (code) => (code === 0 ? done(out.trim()) : fail(new Error(`exit code ${code}`))));
  });
  path.catch(() => undefined);
  return { child, path };
}

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
  it("ends in one sentence on an Intel Mac where nothing may be fetched: there is no other engine to go on with", async () => {
    process.env.DIPTYCH_DOWNLOAD = "never";
    const own = ["platform", "arch"].map((key) => [key, Object.getOwnPropertyDescriptor(process, key)!] as const);
    const said: string[] = [];
    try {
      Object.defineProperties(process, { platform: { value: "darwin" }, arch: { value: "x64" } });
      await assert.rejects(
        engineFor({}, (line) => said.push(line)),
        /^Error: The training library is not installed .* Fetch onnxruntime-.*-macosx-x86_64\.jar [^\n]*$/,
      );
    } finally {
      for (const [key, descriptor] of own) Object.defineProperty(process, key, descriptor);
    }
    assert.deepEqual(said, []);
  });
  it("installs for an Intel Mac from a jar", async () => {
    const { jar, sha256 } = fakeJar(folder, "org/bytedeco/onnxruntime/macosx-x86_64/libonnxruntime.1.dylib");
    const library = await install({ folder, platform: "darwin-x64", library: jar, sha256 });
    assert.match(library, /macosx-x86_64[\\/]libonnxruntime\.1\.dylib$/);
    assert.deepEqual(readFileSync(library), content);
  });
  it("installs from two processes at once, one whole library and nothing else", async () => {
    const { jar, sha256 } = fakeJar(folder, linuxEntry);
    const copies = fetcher(`setTimeout(() => fs.copyFileSync(${JSON.stringify(jar)}, folder + "/ort.jar"), 100)`);
    const options = { folder: join(folder, "cache"), platform: "linux-x64", sha256, fetcher: copies };
    const paths = await Promise.all([1, 2, 3].map(() => inAnotherProcess(options).path));
    assert.equal(new Set(paths).size, 1);
    assert.deepEqual(readFileSync(paths[0]!), content);
    assert.equal(readdirSync(options.folder).length, 1);
  });
  it("installs after a process that was killed while it fetched", async () => {
    const { jar, sha256 } = fakeJar(folder, linuxEntry);
    const cache = join(folder, "cache");
    const stalls = fetcher('fs.writeFileSync(folder + "/x.jar", "half"); setTimeout(() => {}, 1500)');
    const { child } = inAnotherProcess({ folder: cache, platform: "linux-x64", sha256, fetcher: stalls });
    while (!existsSync(cache) || !readdirSync(cache).some((f) => existsSync(join(cache, f, "x.jar"))))
      await new Promise((done) => setTimeout(done, 20));
    child.kill("SIGKILL");
    const [left] = readdirSync(cache);
    const then = Date.now() / 1000 - 7200;
    utimesSync(join(cache, left!), then, then);
    const copies = fetcher(`fs.copyFileSync(${JSON.stringify(jar)}, folder + "/ort.jar")`);
    const library = await trainingLibrary({ folder: cache, platform: "linux-x64", sha256, fetcher: copies });
    assert.deepEqual(readFileSync(library), content);
    assert.equal(readdirSync(cache).length, 1, "what the killed process left is swept away");
  });

  /** A Maven repository on this machine; `answers` are what it does to one request after the other. */
  async function withRepository(
    answers: ("serve" | "refuse" | "break" | "stall")[],
    use: (options: RuntimeOptions, said: string[]) => Promise<void>,
  ): Promise<void> {
    const { jar, sha256 } = fakeJar(folder, linuxEntry);
    const bytes = readFileSync(jar);
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(request.url!);
      const answer = answers[asked.length - 1] ?? "serve";
      if (answer === "refuse") return response.writeHead(503).end();
      response.writeHead(200, { "content-length": bytes.length });
      if (answer === "serve") return response.end(bytes);
      response.write(bytes.subarray(0, bytes.length / 2), () => {
        if (answer === "break") setTimeout(() => response.destroy(), 50);
      });
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    const repository = `http://127.0.0.1:${(server.address() as AddressInfo).port}/maven2`;
    const said: string[] = [];
    const cache = join(folder, "cache");
    try {
      const announce = (line: string) => said.push(line);
      await use({ folder: cache, platform: "linux-x64", sha256, repository, patience: 2500, announce }, said);
      const path = "/maven2/org/bytedeco/onnxruntime/1.28.0-1.5.14/onnxruntime-1.28.0-1.5.14-linux-x86_64.jar";
      assert.ok(asked.every((url) => url === path));
      assert.ok(
        readdirSync(cache).every((f) => !f.startsWith(".")),
        "nothing half-made stays",
      );
    } finally {
      server.closeAllConnections();
      server.close();
    }
  }
  for (const first of ["refuse", "break", "stall"] as const)
    it(`gets the library at the second try where the first connection ${first}s`, () =>
      withRepository([first, "serve"], async (options, said) => {
        assert.deepEqual(readFileSync(await install(options)), content);
        const why = {
          refuse: "Status 503",
          break: "failed: the connection broke midway.",
          stall: "stood still for 2.5 s",
        }[first];
        assert.ok(
          said.some((line) => line.includes(why) && line.endsWith("Trying once more.")),
          said.join("\n"),
        );
      }));
  for (const [always, why] of [
    ["refuse", /failed: Unable to fetch http.* Status 503\. Fetch onnxruntime-/],
    ["break", /failed: the connection broke midway\. Fetch onnxruntime-/],
  ] as const)
    it(`ends in one sentence where every connection ${always}s`, () =>
      withRepository([always, always], (options) => assert.rejects(install(options), why)));
  it("ends in one sentence where nobody listens", async () => {
    const options = { folder, platform: "linux-x64", repository: "http://127.0.0.1:9/maven2" };
    await assert.rejects(install(options), /failed: [^\n]*ECONNREFUSED[^\n]*\. Fetch onnxruntime-/);
  });

  it("refuses a library for another platform in one sentence", () => {
    const binaries = fileURLToPath(new URL("../../node_modules/onnxruntime-node/bin/napi-v6/", import.meta.url));
    const foreign = [
      "linux/arm64/libonnxruntime.so.1",
      "linux/x64/libonnxruntime.so.1",
      "darwin/arm64/libonnxruntime.1.dylib",
      "win32/x64/onnxruntime.dll",
    ].filter((f) => !f.startsWith(`${process.platform}/${process.arch}/`));
    for (const file of foreign)
      assert.throws(
        () => openEngine({ library: join(binaries, file), name: "training" }),
        new RegExp(
          `${file.replaceAll(/[./]/g, ".")} does not load as an ONNX Runtime library on ${process.platform}-${process.arch}: [^\n]+$`,
        ),
      );
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
