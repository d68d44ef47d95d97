/** Which onnxruntime library: find it, or fetch it once from Maven Central, and say what is missing. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import yauzl from "yauzl";
import { cacheDir } from "./cache.js";
import type { Device } from "./onnx/graph.js";

/** One jar of Maven Central: the files to take out of org/bytedeco/onnxruntime/NAME/; the first is the library that is opened. */
interface Build {
  readonly name: string;
  readonly files: readonly [library: string, ...beside: string[]];
  readonly sha256: string;
}

/** The training-enabled build: org.bytedeco:onnxruntime on Maven Central. The one with CUDA 13 kernels serves the CPU as well. */
export const trainingBuild = {
  artifact: "org.bytedeco:onnxruntime",
  version: "1.28.0-1.5.14",
  cpu: {
    "linux-x64": {
      name: "linux-x86_64",
      files: ["libonnxruntime.so.1"],
      sha256: "f2de034ff16d4aebe4382530b383b6070c834741d74ebc31d72696d2e57a74dc",
    },
    "linux-arm64": {
      name: "linux-arm64",
      files: ["libonnxruntime.so.1"],
      sha256: "8861ad41a47fb99b5fe06591294a4c286b7703ebb01320ac6801bab2e0885956",
    },
    "darwin-arm64": {
      name: "macosx-arm64",
      files: ["libonnxruntime.1.dylib"],
      sha256: "bca5811b45907b5a2394549f2890df1615ee4104da2904eaaf1539ff11d588e4",
    },
    "darwin-x64": {
      name: "macosx-x86_64",
      files: ["libonnxruntime.1.dylib"],
      sha256: "22cf8a6fd5b8363bb3e10e58535bd01931ee7608c8681f29be5cf2f143fa4ae4",
    },
    "win32-x64": {
      name: "windows-x86_64",
      files: ["onnxruntime.dll"],
      sha256: "706f5d70fbf87b75ec798ca3cc679798f0cba62e86e1cba7de22eb85a17fefb2",
    },
  },
  cuda: {
    "linux-x64": {
      name: "linux-x86_64-gpu",
      files: ["libonnxruntime.so.1", "libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"],
      sha256: "a1775c67abc5864dcaa3771eff343be804cd0d0232f0b187e6c9867c15d6167f",
    },
    "win32-x64": {
      name: "windows-x86_64-gpu",
      files: ["onnxruntime.dll", "onnxruntime_providers_shared.dll", "onnxruntime_providers_cuda.dll"],
      sha256: "3ee4898ecd3166a1ad81c07552ef22a7a281019b868169af575284b57e6098ce",
    },
  },
} as const satisfies { artifact: string; version: string } & Record<Device, Readonly<Record<string, Build>>>;

/** Bytes fetched so far. */
export type Progress = (bytes: number) => void;

export interface RuntimeOptions {
  /** A library or a jar given by hand; default DIPTYCH_ORT_LIBRARY. */
  library?: string;
  /** Where fetched libraries are kept; default DIPTYCH_RUNTIMES, else the user's cache. */
  folder?: string;
  platform?: string;
  /** Which build: cuda brings the CUDA kernels beside those of the CPU. Default cpu. */
  device?: Device;
  /** Called once before anything is fetched: what, and where to. */
  announce?: (sentence: string) => void;
  progress?: Progress;
  /** Milliseconds without growth after which a download is given up. */
  patience?: number;
  /** A mirror of Maven Central, for those who cannot reach it; default DIPTYCH_MAVEN, else Maven Central. */
  repository?: string;
  /** SHA-256 that the jar must have; default the pinned one of the platform. */
  sha256?: string;
  /** The program that fetches, for tests; default mvn-artifact-download. Writes the jar into the folder that it is given. */
  fetcher?: readonly string[];
}

const thisPlatform = (): string => `${process.platform}-${process.arch}`;

const repositoryOf = ({ repository }: RuntimeOptions): string | undefined => repository ?? process.env.DIPTYCH_MAVEN;

/** What to fetch by hand where this cannot. */
const byHand = (build: Build): string =>
  `Fetch onnxruntime-${trainingBuild.version}-${build.name}.jar of ${trainingBuild.artifact} from Maven Central and give it as --library FILE or DIPTYCH_ORT_LIBRARY.`;

function buildFor({ platform = thisPlatform(), device = "cpu" }: RuntimeOptions): Build {
  const builds: Readonly<Record<string, Build>> = trainingBuild[device];
  const found = builds[platform];
  if (found) return found;
  const known = Object.keys(builds).join(", ");
  throw new Error(
    device === "cpu"
      ? `There is no training library for ${platform}; there is one for ${known}. The portable engine runs without it.`
      : `There is no training library with CUDA for ${platform}; there is one for ${known}. Run with --device cpu.`,
  );
}

const runtimesDir = (folder = process.env.DIPTYCH_RUNTIMES || cacheDir("runtimes")): string => folder;
const installedPath = (build: Build, folder?: string): string =>
  join(runtimesDir(folder), `onnxruntime-${trainingBuild.version}-${build.name}`, build.files[0]);

/** The installed library of a device, if there is one: the CPU is served by either build. */
function installed(options: RuntimeOptions): string | undefined {
  const { device = "cpu", platform = thisPlatform() } = options;
  const builds = (device === "cuda" ? (["cuda"] as const) : (["cpu", "cuda"] as const)).flatMap(
    (d) => (trainingBuild[d] as Readonly<Record<string, Build>>)[platform] ?? [],
  );
  return builds.map((build) => installedPath(build, options.folder)).find(existsSync);
}

/**
 * The path of a library with the training API: the one given by hand, the one installed before, or a fresh install.
 * @example const engine = openEngine({ library: await trainingLibrary(), name: "training" });
 */
export async function trainingLibrary(options: RuntimeOptions = {}): Promise<string> {
  const given = options.library ?? process.env.DIPTYCH_ORT_LIBRARY;
  if (given) return byHandLibrary(resolve(given), options);
  return installedLibrary(options);
}

/** The library installed before, or a fresh install. */
export const installedLibrary = async (options: RuntimeOptions = {}): Promise<string> =>
  installed(options) ?? install(options);

async function byHandLibrary(file: string, options: RuntimeOptions): Promise<string> {
  const found = await stat(file).catch(() => undefined);
  if (!found?.isFile()) throw new Error(`There is no ONNX Runtime library or jar at ${file}.`);
  return file.endsWith(".jar") ? unpacked(file, options) : file;
}

/** Fetches, verifies and installs the training library; returns its path. A library that is there already is replaced. */
export async function install(options: RuntimeOptions = {}): Promise<string> {
  const build = buildFor(options);
  if (options.library) return byHandLibrary(resolve(options.library), options);
  if (process.env.DIPTYCH_DOWNLOAD === "never")
    throw new Error(
      `The training library is not installed and DIPTYCH_DOWNLOAD=never forbids fetching it. ${byHand(build)}`,
    );
  const folder = runtimesDir(options.folder);
  options.announce?.(
    `Fetching ONNX Runtime ${trainingBuild.version} with training for ${build.name} from ${repositoryOf(options) ?? "Maven Central"} into ${folder}`,
  );
  await mkdir(folder, { recursive: true });
  await sweep(folder);
  const aside = await mkdtemp(join(folder, ".fetching-"));
  try {
    const attempt = async (): Promise<string> => unpacked(await fetched(build.name, aside, options), options);
    return await attempt().catch(async (first: Error) => {
      options.announce?.(`${first.message} Trying once more.`);
      for (const left of await readdir(aside)) await rm(join(aside, left), { force: true });
      return attempt();
    });
  } catch (error) {
    throw new Error(`${(error as Error).message} ${byHand(build)}`, { cause: error });
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

/** Removes what killed processes left half-made an hour ago or more. */
async function sweep(folder: string): Promise<void> {
  const old = Date.now() - 3_600_000;
  for (const name of (await readdir(folder)).filter((f) => /^\.(fetching|unpacking)-/.test(f))) {
    const path = join(folder, name);
    const made = await stat(path).catch(() => undefined);
    if (made && made.mtimeMs < old) await rm(path, { recursive: true, force: true });
  }
}

/** The program run in the child process: fetches artifact argv[3] into the folder argv[2] from the repository argv[4], if given. */
const fetchProgram = `
  const fail = (e) => { console.error(e.message); process.exit(1); };
  process.on("uncaughtException", fail);
  process.on("beforeExit", () => fail(new Error("the connection broke midway"))); // its promise never settles then
  const [, module, folder, artifact, repository] = process.argv;
  const mvn = require(module);
  (mvn.default ?? mvn)(artifact, folder, repository).then(() => process.exit(0), fail);`;

/** The jar in `folder`. The child is killed when its file stops growing: a broken connection never settles by itself. */
async function fetched(platform: string, folder: string, options: RuntimeOptions): Promise<string> {
  const { progress, patience = 30_000, fetcher } = options;
  const repository = repositoryOf(options)?.replace(/\/*$/, "/");
  const module = createRequire(import.meta.url).resolve("mvn-artifact-download");
  const coordinates = `${trainingBuild.artifact}:jar:${platform}:${trainingBuild.version}`;
  const [command, ...args] = fetcher ?? [process.execPath, "-e", fetchProgram, module];
  const child = spawn(command!, [...args, folder, coordinates, ...(repository ? [repository] : [])], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, NODE_USE_ENV_PROXY: "1" }, // HTTPS_PROXY counts, from Node 22.21 on
  });
  let complaint = "";
  child.stderr.on("data", (chunk: Buffer) => (complaint += chunk.toString()));
  const ended = new Promise<number | null>((done, fail) => {
    child.on("close", done);
    child.on("error", fail);
  });
  let [size, since] = [0, Date.now()];
  let stalled = false;
  const watch = setInterval(
    () => {
      void jarSize(folder).then((now) => {
        if (now > size) [size, since] = [now, Date.now()];
        else if (Date.now() - since > patience) stalled = child.kill("SIGKILL");
        progress?.(size);
      });
    },
    Math.min(200, patience / 4),
  );
  const code = await ended.finally(() => clearInterval(watch));
  if (stalled)
    throw new Error(
      `The download of ${coordinates} stood still for ${patience / 1000} s at ${(size / 1e6).toFixed(1)} MB.`,
    );
  if (code !== 0)
    throw new Error(
      `The download of ${coordinates} failed: ${complaint.trim().split("\n")[0] || `exit code ${code}`}.`,
    );
  const jar = (await readdir(folder)).find((f) => f.endsWith(".jar"));
  if (!jar) throw new Error(`The download of ${coordinates} left no jar.`);
  return join(folder, jar);
}

async function jarSize(folder: string): Promise<number> {
  const names = await readdir(folder).catch(() => []);
  const sizes = await Promise.all(
    names.map((f) =>
      stat(join(folder, f)).then(
        (s) => s.size,
        () => 0,
      ),
    ),
  );
  return Math.max(0, ...sizes);
}

/** Verifies a jar and puts its files in place by one rename each, the library last; two processes may do so at once. */
async function unpacked(jar: string, options: RuntimeOptions): Promise<string> {
  const build = buildFor(options);
  const expected = options.sha256 ?? build.sha256;
  const sum = createHash("sha256");
  await pipeline(createReadStream(jar), sum);
  const found = sum.digest("hex");
  if (found !== expected)
    throw new Error(`${basename(jar)} is not the pinned one: its SHA-256 is ${found}, expected ${expected}.`);
  const library = installedPath(build, options.folder);
  await mkdir(dirname(library), { recursive: true });
  const aside = await mkdtemp(join(runtimesDir(options.folder), ".unpacking-"));
  try {
    await extract(jar, `org/bytedeco/onnxruntime/${build.name}/`, build.files, aside);
    for (const file of build.files.toReversed()) {
      const target = join(dirname(library), file);
      await rename(join(aside, file), target).catch((error: Error) => {
        if (!existsSync(target)) throw error; // Windows does not replace a library that another process has open
      });
    }
    return library;
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

/** Writes files that lie in one folder of a zip into a folder. */
function extract(archive: string, inside: string, files: readonly string[], folder: string): Promise<void> {
  const wanted = new Set(files);
  return new Promise((done, fail) => {
    yauzl.open(archive, { lazyEntries: true }, (error, zip) => {
      if (error) return fail(error);
      zip.on("error", fail);
      zip.on("end", () =>
        fail(new Error(`${basename(archive)} holds no ${[...wanted].map((f) => inside + f).join(", ")}.`)),
      );
      zip.on("entry", (entry: yauzl.Entry) => {
        const file = entry.fileName.slice(inside.length);
        if (!entry.fileName.startsWith(inside) || !wanted.delete(file)) return zip.readEntry();
        zip.openReadStream(entry, (problem, stream) => {
          if (problem) return fail(problem);
          pipeline(stream, createWriteStream(join(folder, file))).then(() => {
            if (wanted.size) return zip.readEntry();
            zip.close();
            done();
          }, fail);
        });
      });
      zip.readEntry();
    });
  });
}

/** The library inside onnxruntime-node, for the portable engine. */
export function portableLibrary(platform = process.platform, arch: string = process.arch): string {
  const root = dirname(createRequire(import.meta.url).resolve("onnxruntime-node/package.json"));
  const file = { linux: "libonnxruntime.so.1", darwin: "libonnxruntime.1.dylib", win32: "onnxruntime.dll" }[
    platform as string
  ];
  const path = join(root, "bin", "napi-v6", platform, arch, file ?? "");
  if (!file || !existsSync(path))
    throw new Error(
      `onnxruntime-node brings no library for ${platform}-${arch}${platform === "darwin" && arch === "x64" ? " (Intel Mac)" : ""}. ` +
        "Use the training engine (diptych runtime install), which has one, or give a library: --library FILE.",
    );
  return path;
}

export interface Installed {
  kind: "training" | "portable";
  /** cuda: the build that brings the CUDA provider. */
  device: Device;
  path: string;
  version: string;
}

/** The libraries at hand, without fetching any. */
export function installedRuntimes(folder?: string): Installed[] {
  const list: Installed[] = [];
  for (const device of ["cpu", "cuda"] as const) {
    const build = (trainingBuild[device] as Readonly<Record<string, Build>>)[thisPlatform()];
    const path = build && installedPath(build, folder);
    if (path && existsSync(path)) list.push({ kind: "training", device, path, version: trainingBuild.version });
  }
  try {
    const path = portableLibrary();
    const { version } = createRequire(import.meta.url)("onnxruntime-node/package.json") as { version: string };
    list.push({ kind: "portable", device: "cpu", path, version });
  } catch {
    // none for this platform
  }
  return list;
}
