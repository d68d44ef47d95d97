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

/** The training-enabled build: org.bytedeco:onnxruntime on Maven Central. The library lies in the jar at org/bytedeco/onnxruntime/PLATFORM/. */
export const trainingBuild = {
  artifact: "org.bytedeco:onnxruntime",
  version: "1.28.0-1.5.14",
  platforms: {
    "linux-x64": {
      name: "linux-x86_64",
      library: "libonnxruntime.so.1",
      sha256: "f2de034ff16d4aebe4382530b383b6070c834741d74ebc31d72696d2e57a74dc",
    },
    "linux-arm64": {
      name: "linux-arm64",
      library: "libonnxruntime.so.1",
      sha256: "8861ad41a47fb99b5fe06591294a4c286b7703ebb01320ac6801bab2e0885956",
    },
    "darwin-arm64": {
      name: "macosx-arm64",
      library: "libonnxruntime.1.dylib",
      sha256: "bca5811b45907b5a2394549f2890df1615ee4104da2904eaaf1539ff11d588e4",
    },
    "darwin-x64": {
      name: "macosx-x86_64",
      library: "libonnxruntime.1.dylib",
      sha256: "22cf8a6fd5b8363bb3e10e58535bd01931ee7608c8681f29be5cf2f143fa4ae4",
    },
    "win32-x64": {
      name: "windows-x86_64",
      library: "onnxruntime.dll",
      sha256: "706f5d70fbf87b75ec798ca3cc679798f0cba62e86e1cba7de22eb85a17fefb2",
    },
  },
} as const;

export type Platform = keyof typeof trainingBuild.platforms;
/** Bytes fetched so far. */
export type Progress = (bytes: number) => void;

export interface RuntimeOptions {
  /** A library or a jar given by hand; default DIPTYCH_ORT_LIBRARY. */
  library?: string;
  /** Where fetched libraries are kept. */
  folder?: string;
  platform?: string;
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
const byHand = (p: (typeof trainingBuild.platforms)[Platform]): string =>
  `Fetch onnxruntime-${trainingBuild.version}-${p.name}.jar of ${trainingBuild.artifact} from Maven Central and give it as --library FILE or DIPTYCH_ORT_LIBRARY.`;

function platformOf(name: string) {
  const found = trainingBuild.platforms[name as Platform];
  if (found) return found;
  const known = Object.keys(trainingBuild.platforms).join(", ");
  throw new Error(
    `There is no training library for ${name}; there is one for ${known}. The portable engine runs without it.`,
  );
}

const runtimesDir = (folder = cacheDir("runtimes")): string => folder;
const installedPath = (platform: string, folder?: string): string => {
  const p = platformOf(platform);
  return join(runtimesDir(folder), `onnxruntime-${trainingBuild.version}-${p.name}`, p.library);
};

/**
 * The path of a library with the training API: the one given by hand, the one installed before, or a fresh install.
 * @example const engine = openEngine({ library: await trainingLibrary(), name: "training" });
 */
export async function trainingLibrary(options: RuntimeOptions = {}): Promise<string> {
  const platform = options.platform ?? thisPlatform();
  const given = options.library ?? process.env.DIPTYCH_ORT_LIBRARY;
  if (given) return byHandLibrary(resolve(given), platform, options);
  const installed = installedPath(platform, options.folder);
  if (existsSync(installed)) return installed;
  return install({ ...options, platform });
}

async function byHandLibrary(file: string, platform: string, options: RuntimeOptions): Promise<string> {
  const found = await stat(file).catch(() => undefined);
  if (!found?.isFile()) throw new Error(`There is no ONNX Runtime library or jar at ${file}.`);
  return file.endsWith(".jar") ? unpacked(file, platform, options) : file;
}

/** Fetches, verifies and installs the training library; returns its path. A library that is there already is replaced. */
export async function install(options: RuntimeOptions = {}): Promise<string> {
  const platform = options.platform ?? thisPlatform();
  const p = platformOf(platform);
  if (options.library) return byHandLibrary(resolve(options.library), platform, options);
  if (process.env.DIPTYCH_DOWNLOAD === "never")
    throw new Error(
      `The training library is not installed and DIPTYCH_DOWNLOAD=never forbids fetching it. ${byHand(p)}`,
    );
  const folder = runtimesDir(options.folder);
  options.announce?.(
    `Fetching ONNX Runtime ${trainingBuild.version} with training for ${p.name} from ${repositoryOf(options) ?? "Maven Central"} into ${folder}`,
  );
  await mkdir(folder, { recursive: true });
  await sweep(folder);
  const aside = await mkdtemp(join(folder, ".fetching-"));
  try {
    const attempt = async (): Promise<string> => unpacked(await fetched(p.name, aside, options), platform, options);
    return await attempt().catch(async (first: Error) => {
      options.announce?.(`${first.message} Trying once more.`);
      for (const left of await readdir(aside)) await rm(join(aside, left), { force: true });
      return attempt();
    });
  } catch (error) {
    throw new Error(`${(error as Error).message} ${byHand(p)}`, { cause: error });
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

/** Verifies a jar and puts its library in place by one rename; two processes may do so at once. */
async function unpacked(jar: string, platform: string, { folder, sha256 }: RuntimeOptions): Promise<string> {
  const p = platformOf(platform);
  const expected = sha256 ?? p.sha256;
  const sum = createHash("sha256");
  await pipeline(createReadStream(jar), sum);
  const found = sum.digest("hex");
  if (found !== expected)
    throw new Error(`${basename(jar)} is not the pinned one: its SHA-256 is ${found}, expected ${expected}.`);
  const target = installedPath(platform, folder);
  await mkdir(runtimesDir(folder), { recursive: true });
  const aside = await mkdtemp(join(runtimesDir(folder), ".unpacking-"));
  try {
    await extract(jar, `org/bytedeco/onnxruntime/${p.name}/${p.library}`, join(aside, p.library));
    await mkdir(dirname(target), { recursive: true });
    await rename(join(aside, p.library), target).catch((error: Error) => {
      if (!existsSync(target)) throw error; // Windows does not replace a library that another process has open
    });
    return target;
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

/** Writes one entry of a zip to a file. */
function extract(archive: string, name: string, target: string): Promise<void> {
  return new Promise((done, fail) => {
    yauzl.open(archive, { lazyEntries: true }, (error, zip) => {
      if (error) return fail(error);
      zip.on("error", fail);
      zip.on("end", () => fail(new Error(`${basename(archive)} holds no ${name}.`)));
      zip.on("entry", (entry: yauzl.Entry) => {
        if (entry.fileName !== name) return zip.readEntry();
        zip.openReadStream(entry, (problem, stream) => {
          if (problem) return fail(problem);
          pipeline(stream, createWriteStream(target)).then(() => {
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
  path: string;
  version: string;
}

/** The libraries at hand, without fetching any. */
export function installedRuntimes(folder?: string): Installed[] {
  const platform = thisPlatform();
  const list: Installed[] = [];
  const training = platform in trainingBuild.platforms ? installedPath(platform, folder) : undefined;
  if (training && existsSync(training)) list.push({ kind: "training", path: training, version: trainingBuild.version });
  try {
    const path = portableLibrary();
    const { version } = createRequire(import.meta.url)("onnxruntime-node/package.json") as { version: string };
    list.push({ kind: "portable", path, version });
  } catch {
    // none for this platform
  }
  return list;
}
