/** The C API of an onnxruntime library as functions: one koffi layer for the training library and the one inside onnxruntime-node. */
import { existsSync } from "node:fs";
import koffi from "koffi";
import { deviceSentence } from "./cuda.js";

/** An opaque pointer of the library: OrtValue*, OrtSession* … */
export type Pointer = bigint;
type Returns = (...args: unknown[]) => unknown;
interface Callable extends Returns {
  async(...args: unknown[]): void;
  /** Where the function lies. */
  readonly address: Pointer;
}

/** ORT_API_VERSION asked for: both libraries have it, and the tables only grow. */
const apiVersion = 20;

/** A type of koffi, or its name. */
type Argument = string | object;
const OUT: object = koffi.out(koffi.pointer("void *"));
const INOUT: object = koffi.inout(koffi.pointer("void *"));
/** Paths are UTF-16 on Windows. */
const PATH = process.platform === "win32" ? "str16" : "str";

/** name: [index in the table, arguments after the status convention]; see ort-api index of onnxruntime_c_api.h */
const ortApi = {
  GetErrorMessage: [2, ["void *"], "str"],
  CreateEnv: [3, ["int", "str", OUT]],
  CreateSession: [7, ["void *", PATH, "void *", OUT]],
  CreateSessionFromArray: [8, ["void *", "void *", "size_t", "void *", OUT]],
  Run: [9, ["void *", "void *", "str *", "void **", "size_t", "str *", "size_t", INOUT]],
  CreateSessionOptions: [10, [OUT]],
  DisableMemPattern: [17, ["void *"]],
  EnableProfiling: [14, ["void *", PATH]],
  SetSessionGraphOptimizationLevel: [23, ["void *", "int"]],
  SetIntraOpNumThreads: [24, ["void *", "int"]],
  SetInterOpNumThreads: [25, ["void *", "int"]],
  SessionGetInputCount: [30, ["void *", "_Out_ size_t *"]],
  SessionGetOutputCount: [31, ["void *", "_Out_ size_t *"]],
  SessionGetInputName: [36, ["void *", "size_t", "void *", OUT]],
  SessionGetOutputName: [37, ["void *", "size_t", "void *", OUT]],
  CreateRunOptions: [39, [OUT]],
  CreateTensorWithDataAsOrtValue: [49, ["void *", "void *", "size_t", "int64_t *", "size_t", "int", OUT]],
  GetTensorMutableData: [51, ["void *", OUT]],
  GetTensorElementType: [60, ["void *", "_Out_ int *"]],
  GetDimensionsCount: [61, ["void *", "_Out_ size_t *"]],
  GetDimensions: [62, ["void *", "void *", "size_t"]],
  GetTensorTypeAndShape: [65, ["void *", OUT]],
  CreateMemoryInfo: [68, ["str", "int", "int", "int", OUT]],
  CreateCpuMemoryInfo: [69, ["int", "int", OUT]],
  MemoryInfoGetName: [71, ["void *", OUT]],
  AllocatorAlloc: [75, ["void *", "size_t", OUT]],
  AllocatorFree: [76, ["void *", "void *"]],
  GetAllocatorWithDefaultOptions: [78, [OUT]],
  ReleaseStatus: [93, ["void *"], "void"],
  ReleaseMemoryInfo: [94, ["void *"], "void"],
  ReleaseSession: [95, ["void *"], "void"],
  ReleaseValue: [96, ["void *"], "void"],
  ReleaseRunOptions: [97, ["void *"], "void"],
  ReleaseTensorTypeAndShapeInfo: [99, ["void *"], "void"],
  ReleaseSessionOptions: [100, ["void *"], "void"],
  SessionEndProfiling: [110, ["void *", "void *", OUT]],
  GetAvailableProviders: [125, [OUT, "_Out_ int *"]],
  AddSessionConfigEntry: [130, ["void *", "str", "str"]],
  CreateAllocator: [131, ["void *", "void *", OUT]],
  ReleaseAllocator: [132, ["void *"], "void"],
  RunWithBinding: [133, ["void *", "void *", "void *"]],
  CreateIoBinding: [134, ["void *", OUT]],
  ReleaseIoBinding: [135, ["void *"], "void"],
  BindInput: [136, ["void *", "str", "void *"]],
  BindOutput: [137, ["void *", "str", "void *"]],
  BindOutputToDevice: [138, ["void *", "str", "void *"]],
  GetBoundOutputValues: [140, ["void *", "void *", OUT, "_Out_ size_t *"]],
  AddRunConfigEntry: [165, ["void *", "str", "str"]],
  SessionOptionsAppendExecutionProvider_CUDA_V2: [204, ["void *", "void *"]],
  CreateCUDAProviderOptions: [205, [OUT]],
  UpdateCUDAProviderOptions: [206, ["void *", "str *", "str *", "size_t"]],
  ReleaseCUDAProviderOptions: [208, ["void *"], "void"],
  GetTrainingApi: [219, ["uint32_t"], "void *"],
} as const satisfies Record<string, readonly [number, readonly Argument[], string?]>;

/** From 1.23 on: the tables of older libraries end before. */
const laterApi = {
  SessionGetMemoryInfoForInputs: [380, ["void *", INOUT, "size_t"]],
} as const satisfies Record<string, readonly [number, readonly Argument[], string?]>;

const trainingApi = {
  CreateTrainingSessionFromBuffer: [
    3,
    ["void *", "void *", "void *", "void *", "size_t", "void *", "size_t", "void *", "size_t", OUT],
  ],
  LazyResetGrad: [8, ["void *"]],
  TrainStep: [9, ["void *", "void *", "size_t", "void **", "size_t", "void **"]],
  OptimizerStep: [13, ["void *", "void *"]],
  ReleaseTrainingSession: [19, ["void *"], "void"],
  ReleaseCheckpointState: [20, ["void *"], "void"],
  SaveCheckpoint: [1, ["void *", PATH, "bool"]],
  LoadCheckpointFromBuffer: [29, ["void *", "size_t", OUT]],
  UpdateParameter: [31, ["void *", "str", "void *"]],
  GetParameter: [32, ["void *", "str", "void *", OUT]],
} as const satisfies Record<string, readonly [number, readonly Argument[], string?]>;

type Table<T> = { readonly [K in keyof T]: Callable };

export interface Api {
  /** Path of the library. */
  readonly library: string;
  /** koffi's handle: unloads the library when collected. */
  readonly handle: unknown;
  readonly version: string;
  readonly ort: Table<typeof ortApi>;
  /** undefined: older than 1.23. */
  readonly later?: Table<typeof laterApi>;
  /** undefined: built without training. */
  readonly training?: Table<typeof trainingApi>;
  readonly env: Pointer;
  readonly allocator: Pointer;
  readonly cpu: Pointer;
  /** Calls `f(...args, out)` and returns what it wrote to `out`. */
  make(f: Callable, ...args: unknown[]): Pointer;
  check(status: unknown): void;
  /** The call on libuv's pool: the event loop stays free. */
  call(f: Callable, ...args: unknown[]): Promise<void>;
}

let serial = 0;
function entry(table: unknown, index: number, args: readonly Argument[], result = "void *"): Callable {
  const proto = koffi.proto(`ort_${serial++}`, result, args as never);
  const address = koffi.decode(table as never, index * 8, "void *") as Pointer;
  return Object.assign(koffi.decode(address as never, proto) as Callable, { address });
}
const bind = <T extends Record<string, readonly [number, readonly Argument[], string?]>>(
  table: unknown,
  spec: T,
): Table<T> =>
  Object.fromEntries(
    Object.entries(spec).map(([name, [i, args, result]]) => [name, entry(table, i, args, result)]),
  ) as Table<T>;

/** Build paths in front of a message help nobody: "…/module.cc:410 Status …" keeps its tail. */
const readable = (text: string): string => text.replace(/^\/\S+\/(\S+:\d+ )?(\S+ )?(?=\S)/, "").trim();

/** Errors of the library. */
export class OrtError extends Error {}

const opened = new Map<string, Api>();

/** Opens a library once per process. */
export function openApi(library: string): Api {
  const known = opened.get(library);
  if (known) return known;
  if (!existsSync(library)) throw new Error(`There is no ONNX Runtime library at ${library}.`);
  const { handle, table } = load(library);
  const base = entry(table, 1, [], "str");
  const version = base() as string;
  const pointer = entry(table, 0, ["uint32_t"])(apiVersion);
  if (!pointer) throw new Error(`${library} is ONNX Runtime ${version}; this needs 1.${apiVersion} or newer.`);
  const ort = bind(pointer, ortApi);
  const trainingPointer = ort.GetTrainingApi(apiVersion);
  const check = (status: unknown): void => {
    if (!status) return;
    const text = readable(ort.GetErrorMessage(status) as string);
    ort.ReleaseStatus(status);
    throw new OrtError(deviceSentence(text) ?? text);
  };
  const make = (f: Callable, ...args: unknown[]): Pointer => {
    const out: [Pointer | null] = [null];
    check(f(...args, out));
    return out[0]!;
  };
  const api: Api = {
    library,
    handle,
    version,
    ort,
    later: Number(version.split(".")[1]) >= 23 ? bind(pointer, laterApi) : undefined,
    training: trainingPointer ? bind(trainingPointer, trainingApi) : undefined,
    env: make(ort.CreateEnv, 3, "diptych"),
    allocator: make(ort.GetAllocatorWithDefaultOptions),
    cpu: make(ort.CreateCpuMemoryInfo, 0, 0),
    make,
    check,
    call: (f, ...args) =>
      new Promise((resolve, reject) =>
        f.async(...args, (error: Error | null, status: unknown) => {
          try {
            if (error) throw error;
            check(status);
            resolve();
          } catch (e) {
            reject(e as Error);
          }
        }),
      ),
  };
  opened.set(library, api);
  return api;
}

function load(library: string): { handle: unknown; table: unknown } {
  try {
    const handle = koffi.load(library);
    return { handle, table: (handle.func("void *OrtGetApiBase()") as () => unknown)() };
  } catch (error) {
    const reason = (error as Error).message.split("\n")[0];
    throw new Error(
      `${library} does not load as an ONNX Runtime library on ${process.platform}-${process.arch}: ${reason}`,
      { cause: error },
    );
  }
}

/** A string that the library allocated, freed here. */
export function takeString(api: Api, pointer: Pointer): string {
  const text = textAt(pointer);
  api.check(api.ort.AllocatorFree(api.allocator, pointer));
  return text;
}

/** Names of the execution providers compiled into a library; CPU is always among them. */
export function providers(api: Api): string[] {
  const list: [Pointer | null] = [null];
  const count: [number] = [0];
  api.check(api.ort.GetAvailableProviders(list, count));
  return pointersAt(list[0]!, count[0]).map(textAt);
}

/** The text that lies there, as far as its end. */
export const textAt = (pointer: Pointer): string => koffi.decode(pointer as never, "char", -1) as string;

/** `n` pointers that lie there. */
export const pointersAt = (pointer: Pointer, n: number): Pointer[] =>
  Array.from({ length: n }, (_, i) => koffi.decode(pointer as never, i * 8, "void *") as Pointer);

/** `length` bytes of the library's memory as an ArrayBuffer over it; valid while its owner lives. */
export const memoryAt = (pointer: Pointer, length: number): ArrayBuffer => koffi.view(pointer as never, length);
