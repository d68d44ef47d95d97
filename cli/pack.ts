/** Everything that a machine without a network needs, as the parts of one archive and the script that unpacks them. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, open, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { createGzip } from "node:zlib";

/** Left out: only the web engine needs it, and it is half of all dependencies. */
const onlyInBrowsers = "onnxruntime-web";

const launcher = (script: string): string => `#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
DIPTYCH_RUNTIMES="$here/runtimes" exec "$here/node" "$here/app/${script}" "$@"
`;

/** What npm run gpu needs beside the package: there in a checkout, not where diptych was installed. */
const bench = ["dist/bench", "dist/test", "bench/python"];

const unpacker = `#!/bin/sh
# sh unpack.sh [DIR]: puts the parts together in DIR (default ./diptych), from where DIR/diptych runs.
set -e
parts=$(cd "$(dirname "$0")" && pwd)
target=\${1:-diptych}
(cd "$parts" && sha256sum -c SHA256SUMS >&2)
mkdir -p "$target"
cat "$parts"/diptych.tar.gz.* | tar -xz -C "$target"
echo "$target/diptych"
`;

interface Package {
  files: string[];
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}
const packageAt = async (folder: string): Promise<Package> =>
  JSON.parse(await readFile(join(folder, "package.json"), "utf8")) as Package;

/** Folders of the packages that one needs when it runs, its own left out: found as Node finds them, upwards from whoever asks. */
async function dependencies(root: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const visit = async (folder: string): Promise<void> => {
    const { dependencies: needed, optionalDependencies: optional } = await packageAt(folder);
    for (const name of Object.keys({ ...needed, ...optional })) {
      const at = resolved(name, folder);
      if (!at && optional && name in optional) continue; // for another platform
      if (!at) throw new Error(`${folder} needs the package ${name}, which is not installed. Run npm ci.`);
      if (name === onlyInBrowsers || [...found.values()].includes(at)) continue;
      if (!at.startsWith(join(folder, "node_modules")) || folder === root) found.set(name, at); // else it comes with its folder
      await visit(at);
    }
  };
  await visit(root);
  return found;
}

function resolved(name: string, from: string): string | undefined {
  for (let folder = from; ; folder = dirname(folder)) {
    const at = join(folder, "node_modules", name);
    if (existsSync(join(at, "package.json"))) return at;
    if (folder === dirname(folder)) return undefined;
  }
}

/** A folder of links to what goes into the archive: node, diptych, gpu where there is a checkout, app/, runtimes/. */
async function staged(runtime: string): Promise<string> {
  const root = fileURLToPath(new URL("../../", import.meta.url)).replace(/[\\/]$/, "");
  const stage = await mkdtemp(join(tmpdir(), "diptych-pack-"));
  const link = async (source: string, ...place: string[]): Promise<void> => {
    await mkdir(join(stage, ...place.slice(0, -1)), { recursive: true });
    await symlink(source, join(stage, ...place));
  };
  const runs = (name: string, script: string) => writeFile(join(stage, name), launcher(script), { mode: 0o755 });
  const checkout = bench.every((folder) => existsSync(join(root, folder)));
  await runs("diptych", "bin/diptych.cjs");
  if (checkout) await runs("gpu", "dist/bench/gpu/index.js");
  await link(process.execPath, "node");
  for (const file of ["package.json", ...(await packageAt(root)).files, ...(checkout ? bench : [])])
    await link(join(root, file), "app", ...file.split("/"));
  for (const [name, folder] of await dependencies(root)) await link(folder, "app", "node_modules", ...name.split("/"));
  await link(runtime, "runtimes", basename(runtime));
  return stage;
}

/** Libraries of other platforms, as tar leaves them out. */
const foreign = ["darwin", "linux", "win32"].flatMap((platform) =>
  ["arm64", "x64"].flatMap((arch) =>
    platform === process.platform && arch === process.arch ? [] : [`--exclude=*/napi-v6/${platform}/${arch}`],
  ),
);

/**
 * Packs node, diptych, what it depends on and the folder of a runtime into `out`: diptych.tar.gz.000 … of `partSize` bytes at most,
 * SHA256SUMS and unpack.sh.
 */
export async function pack(
  runtime: string,
  out: string,
  partSize: number,
): Promise<{ parts: string[]; bytes: number }> {
  await mkdir(out, { recursive: true });
  const stage = await staged(runtime);
  try {
    const tar = spawn("tar", ["-c", "-h", "-f", "-", ...foreign, "-C", stage, "."], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let complaint = "";
    tar.stderr.on("data", (chunk: Buffer) => (complaint += chunk.toString()));
    const ended = new Promise<void>((done, fail) => {
      tar.on("error", fail);
      tar.on("close", (code) =>
        code === 0 ? done() : fail(new Error(`tar failed: ${complaint.trim() || `exit code ${code}`}`)),
      );
    });
    const [written] = await Promise.all([split(tar.stdout.pipe(createGzip({ level: 1 })), out, partSize), ended]);
    await writeFile(join(out, "SHA256SUMS"), written.map(({ name, sha256 }) => `${sha256}  ${name}\n`).join(""));
    await writeFile(join(out, "unpack.sh"), unpacker, { mode: 0o755 });
    return { parts: written.map(({ name }) => name), bytes: written.reduce((n, part) => n + part.bytes, 0) };
  } finally {
    await rm(stage, { recursive: true });
  }
}

interface Part {
  name: string;
  bytes: number;
  sha256: string;
}
/** Writes a stream into files of `size` bytes, the last one shorter. */
async function split(stream: Readable, out: string, size: number): Promise<Part[]> {
  const parts: Part[] = [];
  let rest: Buffer[] = [];
  let held = 0;
  const write = async (bytes: Buffer): Promise<void> => {
    const name = `diptych.tar.gz.${String(parts.length).padStart(3, "0")}`;
    const file = await open(join(out, name), "w");
    await file.writeFile(bytes).finally(() => file.close());
    parts.push({ name, bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") });
  };
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    rest.push(chunk);
    held += chunk.length;
    if (held < size) continue;
    const whole = Buffer.concat(rest);
    let at = 0;
    for (; whole.length - at >= size; at += size) await write(whole.subarray(at, at + size));
    rest = [whole.subarray(at)];
    held = whole.length - at;
  }
  if (held) await write(Buffer.concat(rest));
  return parts;
}

/** 60M, 4G or a number of bytes. */
export function bytesOf(text: string): number {
  const [, count, unit] = /^(\d+)([KMG]?)$/.exec(text) ?? [];
  const bytes = Number(count) * { "": 1, K: 1e3, M: 1e6, G: 1e9 }[(unit ?? "") as "" | "K" | "M" | "G"];
  if (!(bytes > 0)) throw new Error(`Expected a size as 60M or 1G for --part-size but received ${text}.`);
  return bytes;
}
