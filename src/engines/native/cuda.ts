/** The CUDA provider: its libraries, the driver, its options, and its errors in sentences. */
import koffi from "koffi";
import { findCudaLibraries, missingSentence } from "../../cudaLibraries.js";
import type { Api, Pointer } from "./api.js";

export interface CudaOptions {
  /** Which card, counted from 0. */
  deviceId?: number;
  /** Folders with the CUDA and cuDNN libraries, separated as in PATH; default the usual places. */
  libraries?: string;
  /** Bytes that the arena may take; default all of the card. */
  memoryLimit?: number;
  /** How the arena grows: to the next power of two, or by what was asked for. */
  arena?: "powerOfTwo" | "asRequested";
  /** How cuDNN chooses a convolution's algorithm: by trying all, by its heuristic, or its default one. */
  cudnnSearch?: "exhaustive" | "heuristic" | "default";
  /** Products of 10 bits in place of 23: off for float32 as the CPU computes it. */
  tf32?: boolean;
  /**
   * The step graph of the portable engine is captured once and replayed: one launch a step in place of thousands. Every node has to run on
   * the card, the step has to be of one batch, and while a session opens nothing else may use the card.
   */
  graphs?: boolean;
}

/** The provider's own names of the options, for a session that is captured or not. */
export const providerOptions = (
  { deviceId = 0, memoryLimit, arena = "powerOfTwo", cudnnSearch = "exhaustive", tf32 = false }: CudaOptions,
  graphs = false,
): Record<string, string> => ({
  device_id: String(deviceId),
  ...(memoryLimit !== undefined && { gpu_mem_limit: String(memoryLimit) }),
  arena_extend_strategy: { powerOfTwo: "kNextPowerOfTwo", asRequested: "kSameAsRequested" }[arena],
  cudnn_conv_algo_search: cudnnSearch.toUpperCase(),
  use_tf32: tf32 ? "1" : "0",
  ...(graphs && { enable_cuda_graph: "1" }),
});

/** Puts the CUDA provider in front of the CPU's. */
export function appendCuda(api: Api, sessionOptions: Pointer, options: CudaOptions, graphs?: boolean): void {
  const cuda = api.make(api.ort.CreateCUDAProviderOptions);
  const given = providerOptions(options, graphs);
  try {
    api.check(
      api.ort.UpdateCUDAProviderOptions(cuda, Object.keys(given), Object.values(given), Object.keys(given).length),
    );
    api.check(api.ort.SessionOptionsAppendExecutionProvider_CUDA_V2(sessionOptions, cuda));
  } finally {
    api.ort.ReleaseCUDAProviderOptions(cuda);
  }
}

/** What the NVIDIA driver says of itself; undefined: it is not on this machine. */
export interface Driver {
  /** The newest CUDA that it serves: 13020 is 13.2. */
  version: number;
  /** What cuInit gave: 0 is success, 100 no device. */
  status: number;
  /** Cards that it sees. */
  devices: number;
}

/** CUDA 13 and the first driver that serves it. */
const [oldestCuda, oldestDriver] = [13000, "580"];
const noDevice = 100;

/** Asks the driver, through its own library. */
export function readDriver(library = process.platform === "win32" ? "nvcuda.dll" : "libcuda.so.1"): Driver | undefined {
  let handle: ReturnType<typeof koffi.load>;
  try {
    handle = koffi.load(library);
  } catch {
    return undefined;
  }
  const [version, devices]: [[number], [number]] = [[0], [0]];
  const status = handle.func("int cuInit(unsigned int)")(0) as number;
  handle.func("int cuDriverGetVersion(_Out_ int *)")(version);
  if (status === 0) handle.func("int cuDeviceGetCount(_Out_ int *)")(devices);
  return { version: version[0], status, devices: devices[0] };
}

/** Why a driver cannot serve a card, as one sentence; undefined where it can. */
export function driverSentence(driver: Driver | undefined, deviceId = 0): string | undefined {
  const install = `Install driver ${oldestDriver} or newer.`;
  if (!driver) return `There is no NVIDIA driver on this machine. ${install}`;
  const { version, status, devices } = driver;
  const served = `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;
  if (version < oldestCuda) return `The NVIDIA driver serves CUDA ${served} at most, and this needs 13.0. ${install}`;
  if (status === noDevice || (status === 0 && devices === 0)) return "The NVIDIA driver sees no CUDA device.";
  if (status !== 0) return `The NVIDIA driver does not start: cuInit gave error ${status}.`;
  if (deviceId >= devices)
    return `There is no CUDA device ${deviceId}: the driver sees ${devices === 1 ? "one, device 0" : `${devices}, devices 0 to ${devices - 1}`}.`;
  return undefined;
}

/** What keeps this machine from running on a card, in sentences: none where nothing is known to. */
export const cudaObstacles = ({ libraries, deviceId }: CudaOptions): string[] =>
  [missingSentence(findCudaLibraries(libraries)), driverSentence(readDriver(), deviceId)].filter(
    (sentence) => sentence !== undefined,
  );

/** What a doctor says: the libraries found, the driver, and all that stands in the way. */
export function cudaReport(
  providers: readonly string[],
  options: CudaOptions,
): { libraries: string[]; driver: Driver | null; obstacles: string[] } {
  const obstacles = [...(providers.includes("CUDA") ? [] : [withoutCuda]), ...cudaObstacles(options)];
  return { libraries: findCudaLibraries(options.libraries).paths, driver: readDriver() ?? null, obstacles };
}

/** Handles, kept for as long as the process runs: the provider binds to the libraries by name. */
const loaded = new Map<string, unknown>();

/** Loads the CUDA and cuDNN libraries by full path, so that the provider, which looks for bare names, finds them. */
export function loadCudaLibraries(libraries?: string): void {
  const found = findCudaLibraries(libraries);
  const missing = missingSentence(found);
  if (missing) throw new Error(missing);
  for (const path of found.paths) if (!loaded.has(path)) loaded.set(path, koffi.load(path, { global: true }));
}

/** Makes ready to open sessions on a card, or says why that cannot be. */
export function openCuda(providers: readonly string[], options: CudaOptions): void {
  if (!providers.includes("CUDA")) throw new Error(withoutCuda);
  const obstacles = cudaObstacles(options);
  if (obstacles.length) throw new Error(obstacles.join(" "));
  loadCudaLibraries(options.libraries);
}
export const withoutCuda =
  "This ONNX Runtime library is built without CUDA. Install one that has it: diptych runtime install --cuda";

/** What the library's errors about a device mean. */
const meanings: readonly (readonly [RegExp, string])[] = [
  [/CUDA failure 100\b/, "There is no CUDA device to run on."],
  [/CUDA failure 101\b/, "There is no CUDA device of that number. Choose another with --device-id."],
  [
    /CUDA failure 35\b/,
    `The NVIDIA driver is missing or too old for CUDA 13. Install driver ${oldestDriver} or newer.`,
  ],
  [
    /CUDA failure 2\b|Failed to allocate memory for requested buffer/,
    "The memory of the device is not enough. Lower the batch with --batch-size, or free the device.",
  ],
  [
    /CUDA failure (46|719|999)\b/,
    "The CUDA device has failed, or others hold it. Go on from the last checkpoint with --resume.",
  ],
  [
    /Inconsistent device requirements/,
    "A parameter is read on the card and on the CPU. diptych build --device cuda lists the nodes that run on the CPU.",
  ],
  [
    /cannot use the graph capture feature/,
    "A CUDA graph holds nodes of the card alone. diptych build --device cuda lists those that run on the CPU.",
  ],
  [
    /Failed to load library \S*providers_cuda/,
    "The CUDA provider does not load; see diptych runtime doctor --device cuda.",
  ],
];

/** An error of the library in our words, its own in brackets; undefined where it is not about a device. */
export function deviceSentence(message: string): string | undefined {
  const meaning = meanings.find(([shape]) => shape.test(message))?.[1];
  const brief = /CUDA failure \d+: [^;]*[^; ]/.exec(message)?.[0] ?? message.split("\n")[0]!.replace(/^.*FAIL : /, "");
  return meaning && `${meaning} (${brief})`;
}
