/** Where the tensors of an engine live. In the host's memory they are JavaScript's own, and nothing is copied; a device's is apart. */
import { bytesOf, dtypes, fromBytes, sizeOf, zeros, type DType, type Tensor } from "../../tensor.js";
import { residing, type Feed, type Feeds, type Resident, type Residents } from "../index.js";
import type { Api, Pointer } from "./api.js";
import { ortTensor, takeValue, type OrtTensor, type TensorType, type Value } from "./value.js";

/** Numbers side by side in one piece of memory: all of them cross over at once. */
export interface Numbers {
  readonly values: readonly Value[];
  write(numbers: readonly number[]): void;
  read(): number[];
  release(): void;
}

export interface Memory {
  /** What OrtMemoryInfo calls it; undefined: the host's. */
  readonly info?: Pointer;
  /** Room for a tensor, of whatever content. */
  room(type: TensorType): Value;
  write(to: Value, from: Tensor): void;
  /** A copy. */
  read(from: Value): Tensor;
  /** Overwrites the rows of `to` from row `at` on. */
  copy(from: Value, to: Value, at?: number): void;
  clear(value: Value): void;
  numbers(types: readonly DType[]): Numbers;
  /** What a run is fed, as values to be released after it. */
  given(feeds: readonly Feed[]): Promise<Value[]>;
  upload(feeds: Feeds): Promise<Residents>;
  /** Takes over an OrtValue that the library made here. */
  adopt(pointer: Pointer): Resident;
  release(): void;
}

const copyOf = (t: Tensor): Tensor => fromBytes(t.dtype, t.shape, bytesOf(t));

/** Overwrites the rows of a tensor from row `at` on. */
export const setRows = (to: Tensor, from: Tensor, at = 0): void =>
  to.data.set(from.data as never, at * sizeOf(to.shape.slice(1)));

/** Numbers of one piece lie so far apart that kernels on any device may read and write them. */
const pitch = 256;

/** Numbers in the host's memory, each a tensor over its part of one buffer. */
export function hostNumbers(types: readonly DType[]) {
  const buffer = new ArrayBuffer(Math.max(1, types.length) * pitch);
  const tensors = types.map((dtype, i): Tensor => ({
    dtype,
    shape: [],
    data: new dtypes[dtype].array(buffer, i * pitch, 1) as Tensor["data"],
  }));
  return {
    tensors,
    bytes: { dtype: "uint8", shape: [buffer.byteLength], data: new Uint8Array(buffer) } satisfies Tensor,
    offset: (i: number): number => i * pitch,
    write: (numbers: readonly number[]): void => numbers.forEach((v, i) => (tensors[i]!.data[0] = v)),
    read: (): number[] => tensors.map((t) => Number(t.data[0])),
  };
}

function inHost(feed: Feed): Tensor {
  if ("data" in feed) return feed;
  throw new Error("A tensor that lives on a device was fed to an engine of the host's memory. Read it first.");
}

/** The host's memory: values are views of JavaScript's buffers. */
export function hostMemory(api: Api): Memory {
  const tensorOf = (value: Value): Tensor => (value as OrtTensor).tensor;
  return {
    room: ({ dtype, shape }) => ortTensor(api, zeros(dtype, shape)),
    write: (to, from) => bytesOf(tensorOf(to)).set(bytesOf(from)),
    read: (from) => copyOf(tensorOf(from)),
    copy: (from, to, at) => setRows(tensorOf(to), tensorOf(from), at),
    clear: (value) => void bytesOf(tensorOf(value)).fill(0),
    numbers(types) {
      const { tensors, write, read } = hostNumbers(types);
      const values = tensors.map((t) => ortTensor(api, t));
      return { values, write, read, release: () => values.forEach((v) => v.release()) };
    },
    given: (feeds) => Promise.resolve(feeds.map((f) => ortTensor(api, inHost(f)))),
    upload: (feeds) =>
      Promise.resolve(Object.fromEntries(Object.entries(feeds).map(([name, f]) => [name, residing(inHost(f))]))),
    adopt: (pointer) => residing(takeValue(api, pointer)),
    release() {},
  };
}
