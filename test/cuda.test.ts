import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { engineFor } from "../cli/engine.js";
import { cudaLibraries, findCudaLibraries, missingSentence } from "../src/cudaLibraries.js";
import { deviceSentence, driverSentence, providerOptions, readDriver } from "../src/engines/native/cuda.js";
import { openEngine } from "../src/engines/native/index.js";
import { installedRuntimes, trainingBuild } from "../src/runtimes.js";
import { trainingEngine } from "./engine.js";

const names = cudaLibraries.map((l) => l.linux);
const [cudart, cublasLt, cublas, cudnn] = names as [string, string, string, string];

describe("the CUDA and cuDNN libraries", () => {
  let root: string;
  beforeEach(() => (root = mkdtempSync(join(tmpdir(), "cuda-"))));
  afterEach(() => rmSync(root, { recursive: true }));

  /** Empty files below the root. */
  const put = (folder: string, ...files: string[]): string => {
    const path = join(root, folder);
    mkdirSync(path, { recursive: true });
    for (const f of files) writeFileSync(join(path, f), "");
    return path;
  };
  const find = (env: NodeJS.ProcessEnv, byHand?: string) =>
    findCudaLibraries(byHand, { platform: "linux", env, home: join(root, "home"), root });

  const places: [what: string, folder: string, env: (root: string) => NodeJS.ProcessEnv][] = [
    ["LD_LIBRARY_PATH", "loader", (r) => ({ LD_LIBRARY_PATH: `/nowhere${delimiter}${join(r, "loader")}` })],
    ["the toolkit of CUDA_HOME", "toolkit/lib64", (r) => ({ CUDA_HOME: join(r, "toolkit") })],
    ["the usual toolkit folder", "usr/local/cuda-13.0/lib64", () => ({})],
    ["the system's folder", "usr/lib/x86_64-linux-gnu", () => ({})],
    [
      "nvidia/*/lib of a Python on PATH",
      "venv/lib/python3.11/site-packages/nvidia/cu13/lib",
      (r) => ({ PATH: `/nowhere${delimiter}${join(r, "venv", "bin")}` }),
    ],
    ["torch's own", "venv/lib/python3.12/site-packages/torch/lib", (r) => ({ PATH: join(r, "venv", "bin") })],
    [
      "a Python that pyenv's shims stand for",
      "venv/versions/3.11.7/lib/python3.11/site-packages/nvidia/cu13/lib",
      (r) => ({ PATH: join(r, "venv", "bin") }),
    ],
    ["the user's packages", "home/.local/lib/python3.11/site-packages/nvidia/cu13/lib", () => ({})],
  ];
  for (const [what, folder, env] of places)
    it(`are found in ${what}`, () => {
      put("venv/bin", "python3");
      const at = put(folder, ...names);
      assert.deepEqual(
        find(env(root)).paths,
        names.map((n) => join(at, n)),
      );
    });
  it("are taken from a folder given by hand before all others, each from the first folder that has it", () => {
    const usual = put("usr/local/cuda/lib64", ...names);
    const given = put("given", cudnn);
    assert.deepEqual(find({}, given).paths, [
      ...[cudart, cublasLt, cublas].map((f) => join(usual, f)),
      join(given, cudnn),
    ]);
  });
  it("are named with their packages where they are missing", () => {
    put("usr/local/cuda/lib64", cudart, cublasLt, cublas);
    assert.equal(
      missingSentence(find({})),
      "The CUDA provider needs CUDA 13 and cuDNN 9, and cannot find libcudnn.so.9 (pip: nvidia-cudnn-cu13, apt: libcudnn9-cuda-13): " +
        "install what is missing, or name its folder with --cuda-libraries.",
    );
  });
  it("of another CUDA are told apart from none", () => {
    const at = put("usr/local/cuda/lib64", "libcudart.so.12", cublasLt, cublas, cudnn);
    assert.match(
      missingSentence(find({}))!,
      new RegExp(`libcudart\\.so\\.13 \\(only ${at}/libcudart\\.so\\.12 is there; `),
    );
  });
  it("are looked for under their Windows names in the toolkit", () => {
    const at = put("toolkit/bin/x64", ...cudaLibraries.map((l) => l.windows));
    const found = findCudaLibraries(undefined, { platform: "win32", env: { CUDA_PATH: join(root, "toolkit") }, root });
    assert.deepEqual([found.paths.map(dirname), found.missing], [Array(4).fill(at), []]);
  });
});

describe("the CUDA driver", () => {
  const cases: [string, Parameters<typeof driverSentence>, RegExp | undefined][] = [
    ["that is not there", [undefined], /^There is no NVIDIA driver on this machine\. Install driver 580 or newer\.$/],
    [
      "that is too old",
      [{ version: 12040, status: 0, devices: 1 }],
      /^The NVIDIA driver serves CUDA 12\.4 at most, and this needs 13\.0\. Install driver 580 or newer\.$/,
    ],
    ["without a card", [{ version: 13020, status: 100, devices: 0 }], /^The NVIDIA driver sees no CUDA device\.$/],
    ["that fails", [{ version: 13000, status: 803, devices: 0 }], /does not start: cuInit gave error 803\.$/],
    [
      "without the card asked for",
      [{ version: 13000, status: 0, devices: 2 }, 2],
      /^There is no CUDA device 2: the driver sees 2, devices 0 to 1\.$/,
    ],
    ["that serves the card", [{ version: 13000, status: 0, devices: 2 }, 1], undefined],
  ];
  for (const [what, given, says] of cases)
    it(`${what} is told in ${says ? "one sentence" : "none"}`, () => {
      const sentence = driverSentence(...given);
      if (says) assert.match(sentence!, says);
      else assert.equal(sentence, undefined);
    });
  it("is read through its library, where there is one", () => {
    assert.equal(readDriver(join(tmpdir(), "no-such-driver.so")), undefined);
  });
});

describe("errors about a device", () => {
  /** As ONNX Runtime 1.28 words them, without the paths in front. */
  const parse = 'provider_options_utils.h:187 Parse Failed to parse provider option "device_id": ';
  const cases: [string, RegExp][] = [
    [
      `${parse}CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1 ; hostname=vm`,
      /^The NVIDIA driver is missing or too old .* \(CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version\)$/,
    ],
    [`${parse}CUDA failure 100: no CUDA-capable device is detected ; GPU=-1`, /^There is no CUDA device to run on\./],
    ["CUDA failure 101: invalid device ordinal ; GPU=0", /^There is no CUDA device of that number\./],
    [
      "This session cannot use the graph capture feature as requested by the user  as all compute graph nodes have not been partitioned to the CUDAExecutionProvider",
      /^A CUDA graph holds nodes of the card alone\. diptych build --device cuda lists/,
    ],
    ["CUDA failure 2: out of memory ; GPU=0", /^The memory of the device is not enough\. Lower the batch/],
    [
      "[ONNXRuntimeError] : 1 : FAIL : Failed to load library /x/libonnxruntime_providers_cuda.so with error: libcudnn.so.9: cannot open shared object file: No such file or directory",
      /^The CUDA provider does not load; .*\(Failed to load library .*libcudnn\.so\.9: cannot open/,
    ],
  ];
  for (const [message, says] of cases)
    it(`become a sentence: ${message.replace(parse, "").slice(0, 40)}…`, () =>
      assert.match(deviceSentence(message)!, says));
  it("leave all others alone", () => assert.equal(deviceSentence("Invalid rank for input: x"), undefined));
});

describe("--device", () => {
  const root = fileURLToPath(new URL("../../", import.meta.url));
  const build = (trainingBuild.cuda as Record<string, { name: string; files: readonly string[] }>)[
    `${process.platform}-${process.arch}`
  ];
  /** Places where nothing of CUDA is. */
  const bare = { PATH: "", LD_LIBRARY_PATH: "", CUDA_HOME: "", CUDA_PATH: "", DIPTYCH_ORT_LIBRARY: "" };
  let library: string;
  before(async () => ({ library } = await trainingEngine()));
  let cache: string;
  const kept: Record<string, string | undefined> = {};
  beforeEach(function () {
    if (!build || readDriver()) {
      this.currentTest!.title += ` (${build ? "this machine has an NVIDIA driver" : "there is no CUDA build for it"})`;
      this.skip();
    }
    cache = mkdtempSync(join(tmpdir(), "cache-"));
    for (const [key, value] of Object.entries({ ...bare, XDG_CACHE_HOME: cache, DIPTYCH_DOWNLOAD: "never" })) {
      kept[key] = process.env[key];
      process.env[key] = value;
    }
  });
  afterEach(() => {
    for (const [key, value] of Object.entries(kept))
      if (value === undefined) delete process.env[key];
      else process.env[key] = value;
    if (cache) rmSync(cache, { recursive: true });
  });

  it("cuda without a driver ends in a sentence, and fetches nothing", async () => {
    await assert.rejects(
      engineFor({ device: "cuda" }, () => assert.fail("nothing is announced")),
      /There is no NVIDIA driver on this machine\. Install driver 580 or newer\.$/,
    );
  });
  it("wants the card and the step graph for --cuda-graphs", async () => {
    for (const flags of [{}, { device: "cuda" }, { engine: "portable" }])
      await assert.rejects(
        engineFor({ ...flags, "cuda-graphs": true }, () => undefined),
        /give --device cuda --engine portable with it/,
      );
  });
  it("cuda on a library without CUDA says how to get one", () => {
    assert.throws(
      () => openEngine({ library, name: "training", device: "cuda" }),
      /is built without CUDA\. Install one that has it: diptych runtime install --cuda/,
    );
  });
  it("auto goes on with the CPU on the CUDA build's own library, and says so once", async () => {
    const folder = join(cache, "diptych", "runtimes", `onnxruntime-${trainingBuild.version}-${build!.name}`);
    mkdirSync(folder, { recursive: true });
    symlinkSync(library, join(folder, build!.files[0]!));
    const said: string[] = [];
    const engine = await engineFor({}, (line) => said.push(line));
    assert.deepEqual([engine.device, engine.name, dirname(engine.library)], ["cpu", "training", folder]);
    assert.equal(said.length, 1);
    assert.match(said[0]!, /There is no NVIDIA driver .* Going on with the CPU\.$/);
  });
  it("auto says nothing where no CUDA runtime is installed", async () => {
    const engine = await engineFor({ library }, (line) => assert.fail(line));
    assert.equal(engine.device, "cpu");
  });
  it("cuda ends a command with exit code 1 and one sentence", () => {
    const args = [
      join(root, "bin", "diptych.cjs"),
      "pretrain",
      "sample",
      "--device",
      "cuda",
      "--out",
      join(cache, "run"),
    ];
    const env = { ...process.env, NO_COLOR: "1", COLUMNS: "500" };
    const { status, stderr } = spawnSync(process.execPath, args, { encoding: "utf8", env });
    assert.notEqual(status, 0);
    assert.match(stderr.replace(/\s+/g, " "), /There is no NVIDIA driver on this machine/);
    assert.doesNotMatch(stderr, /\n\s+at /, "no stack trace");
  });
});

describe("the CUDA provider", () => {
  it("computes float32 in full unless asked otherwise", () => {
    assert.equal(providerOptions({}).use_tf32, "0");
    assert.equal(providerOptions({ tf32: true }).use_tf32, "1");
  });
  it("captures graphs only in the sessions that are told to", () => {
    assert.equal(providerOptions({ graphs: true }).enable_cuda_graph, undefined);
    assert.equal(providerOptions({}, true).enable_cuda_graph, "1");
  });

  /** Opens a session on the real provider with options, in a process of its own: what went wrong. */
  function opening(library: string, options: object): string {
    const at = (path: string) => JSON.stringify(new URL(`../src/${path}`, import.meta.url).href);
    const program = `
      import { openApi } from ${at("engines/native/api.js")};
      import { loadCudaLibraries } from ${at("engines/native/cuda.js")};
      import { openModel } from ${at("engines/native/session.js")};
      import { Identity, input, toModel } from ${at("index.js")};
      loadCudaLibraries();
      const x = input("x", "float32", [2]);
      const model = toModel({ inputs: [x], outputs: { y: Identity(x) } });
      await openModel(openApi(${JSON.stringify(library)}), model, { threads: 1, cuda: ${JSON.stringify(options)} })
        .catch((error) => console.log(error.message));`;
    const { stdout } = spawnSync(process.execPath, ["--input-type=module", "-e", program], { encoding: "utf8" });
    return stdout.trim();
  }
  it("loads by full path and takes our options, up to the card that is not there", function () {
    const runtime = installedRuntimes().find((r) => r.device === "cuda");
    const missing = missingSentence(findCudaLibraries());
    const why = !runtime ? "no CUDA runtime is installed" : (missing ?? (readDriver() && "this machine has a driver"));
    if (why) {
      this.test!.title += ` (${why})`;
      this.skip();
    }
    assert.match(
      opening(runtime!.path, { memoryLimit: 1e9 }),
      /^The NVIDIA driver is missing or too old for CUDA 13\./,
    );
    assert.match(opening(runtime!.path, { cudnnSearch: "none" }), /cudnn_conv_algo_search/, "other names are refused");
  });
});
