/**
 * A device's memory through the library alone: room by its allocator, and every copy, in and out and within, a run of one Identity node
 * over bytes. The CPU's memory serves as one as well: that is how all of this runs without a card.
 */
import { input } from "../../onnx/graph.js";
import { toModel } from "../../onnx/model.js";
import { Identity } from "../../ops/index.js";
import { bytesOf, zeros, type Tensor } from "../../tensor.js";
import type { Feed, Resident } from "../index.js";
import { memoryAt, OrtError, type Api, type Pointer } from "./api.js";
import { hostNumbers, type Memory } from "./memory.js";
import { openModel, type Settings } from "./session.js";
import { bytesIn, once, ortTensor, typeOf, valueOver, type TensorType, type Value } from "./value.js";

/** A value on the device, and where it begins. */
interface DeviceValue extends Value {
  readonly address: Pointer;
}

/** A resident of a device, and the library whose value it is. */
interface DeviceResident extends Resident {
  readonly api: Api;
  /** Throws once it is released. */
  value(): DeviceValue;
}
const isResident = (feed: Feed): feed is DeviceResident => "api" in feed;

/** Pieces of one allocation begin at multiples of so many bytes, as any kernel wants them. */
const alignment = 256;
const aligned = (bytes: number): number => Math.max(1, Math.ceil(bytes / alignment)) * alignment;
const bytesType = (bytes: number): TensorType => ({ dtype: "uint8", shape: [bytes] });

export async function deviceMemory(api: Api, settings: Settings): Promise<Memory> {
  const { ort, make, check } = api;
  const x = input("x", "uint8", ["N"]);
  const model = toModel({ name: "copy", inputs: [x], outputs: { y: Identity(x) } });
  const session = await openModel(api, model, { ...settings, threads: 1, spin: false, optimization: "off" });
  const memoryInfo = (name: string) => make(ort.CreateMemoryInfo, name, 0, settings.cuda?.deviceId ?? 0, 0);
  const info = memoryInfo(settings.cuda ? "Cuda" : "Cpu");
  const lockedInfo = memoryInfo(settings.cuda ? "CudaPinned" : "Cpu");
  const allocator = make(ort.CreateAllocator, session, info);
  /** Of the host's memory that is page-locked: a card reads it without the CPU's help. */
  const locked = allocatorOr(api, session, lockedInfo, api.allocator);

  const allocate = (bytes: number): Pointer => make(ort.AllocatorAlloc, allocator, aligned(bytes));
  const free = (address: Pointer): void => check(ort.AllocatorFree(allocator, address));
  const valueAt = (address: Pointer, type: TensorType): DeviceValue =>
    Object.assign(valueOver(api, info, type, address), { address });

  // copies: both ends are bytes, and are released after
  const bytesAt = (address: Pointer, bytes: number): Value => valueAt(address, bytesType(bytes));
  const bytesOfValue = (v: Value): Value => bytesAt((v as DeviceValue).address, bytesIn(v));
  const bytesOfTensor = (t: Tensor): Value =>
    ortTensor(api, { dtype: "uint8", shape: [t.data.byteLength], data: bytesOf(t) as Uint8Array<ArrayBuffer> });
  const run = (from: Value, to: Value) =>
    [ort.Run, session, null, ["x"], [from.pointer], 1, ["y"], 1, [to.pointer]] as const;
  function cross(from: Value, to: Value): void {
    const [f, ...args] = run(from, to);
    try {
      check(f(...args));
    } finally {
      for (const v of [from, to]) v.release();
    }
  }
  /** Off the event loop. */
  const crossing = (from: Value, to: Value): Promise<void> =>
    api.call(...run(from, to)).finally(() => {
      for (const v of [from, to]) v.release();
    });

  let nought: { address: Pointer; bytes: number } | undefined;
  /** Bytes that are zero, at least so many. */
  function noughts(bytes: number): Pointer {
    if (nought && nought.bytes >= bytes) return nought.address;
    if (nought) free(nought.address);
    nought = { address: allocate(bytes), bytes };
    cross(bytesOfTensor(zeros("uint8", [bytes])), bytesAt(nought.address, bytes));
    return nought.address;
  }

  let spare: { address: Pointer; buffer: Uint8Array } | undefined;
  const unlock = (stage: typeof spare): void => void (stage && check(ort.AllocatorFree(locked, stage.address)));
  /** Page-locked memory of so many bytes: what the upload before has left, where that is enough. */
  function staging(bytes: number): NonNullable<typeof spare> {
    const left = spare;
    spare = undefined;
    if (left && left.buffer.length >= bytes) return left;
    unlock(left);
    const address = make(ort.AllocatorAlloc, locked, bytes);
    return { address, buffer: new Uint8Array(memoryAt(address, bytes)) };
  }

  function resident(value: DeviceValue, release: () => void): DeviceResident {
    let live: DeviceValue | undefined = value;
    const own = (): DeviceValue => {
      if (!live) throw new Error(`This resident ${value.dtype}[${value.shape}] is released.`);
      return live;
    };
    return {
      dtype: value.dtype,
      shape: value.shape,
      api,
      value: own,
      async read() {
        const to = zeros(value.dtype, value.shape);
        await crossing(bytesOfValue(own()), bytesOfTensor(to));
        return to;
      },
      release() {
        if (live) release();
        live = undefined;
      },
    };
  }

  /** The tensors in one piece of the device's memory, which is freed with the last of them. */
  async function uploaded(tensors: readonly Tensor[]): Promise<DeviceResident[]> {
    const short = tensors.find((t) => t.data.byteLength < bytesIn(t));
    if (short) throw new Error(`A ${short.dtype}[${short.shape}] was fed with ${short.data.length} elements.`);
    let total = 0;
    const offsets = tensors.map((t) => {
      const offset = total;
      total += aligned(t.data.byteLength);
      return offset;
    });
    const piece = allocate(total);
    const stage = staging(total);
    tensors.forEach((t, i) => stage.buffer.set(bytesOf(t), offsets[i]));
    try {
      // to the library the staging is plain host memory; the driver knows by the address that it is page-locked
      await crossing(valueOver(api, api.cpu, bytesType(total), stage.address), bytesAt(piece, total));
    } catch (error) {
      free(piece);
      throw error;
    } finally {
      unlock(spare);
      spare = stage;
    }
    let held = tensors.length;
    return tensors.map((t, i) => {
      const value = valueAt(piece + BigInt(offsets[i]!), t);
      return resident(value, () => {
        value.release();
        if (--held === 0) free(piece);
      });
    });
  }

  /** Each feed as a resident: those that are not yet are uploaded together. */
  async function residents(feeds: readonly Feed[]): Promise<DeviceResident[]> {
    const foreign = feeds.find((f) => isResident(f) && f.api !== api);
    if (foreign) throw new Error(`A resident ${foreign.dtype}[${foreign.shape}] of another library was fed.`);
    const host = feeds.filter((f): f is Tensor => !isResident(f));
    const fresh = host.length ? await uploaded(host) : [];
    return feeds.map((f) => (isResident(f) ? f : fresh.shift()!));
  }

  return {
    info,
    room(type) {
      const value = valueAt(allocate(bytesIn(type)), type);
      const release = once(() => {
        value.release();
        free(value.address);
      });
      return { ...value, release } satisfies DeviceValue;
    },
    write: (to, from) => cross(bytesOfTensor(from), bytesOfValue(to)),
    read(from) {
      const to = zeros(from.dtype, from.shape);
      cross(bytesOfValue(from), bytesOfTensor(to));
      return to;
    },
    copy(from, to, row = 0) {
      const offset = row * (bytesIn(to) / (to.shape[0] ?? 1));
      cross(bytesOfValue(from), bytesAt((to as DeviceValue).address + BigInt(offset), bytesIn(from)));
    },
    clear: (value) => cross(bytesAt(noughts(bytesIn(value)), bytesIn(value)), bytesOfValue(value)),
    numbers(types) {
      const mirror = hostNumbers(types);
      const size = bytesIn(mirror.bytes);
      const address = allocate(size);
      const values = mirror.tensors.map((t, i) => valueAt(address + BigInt(mirror.offset(i)), t));
      return {
        values,
        write(numbers) {
          mirror.write(numbers);
          cross(bytesOfTensor(mirror.bytes), bytesAt(address, size));
        },
        read() {
          cross(bytesAt(address, size), bytesOfTensor(mirror.bytes));
          return mirror.read();
        },
        release() {
          for (const v of values) v.release();
          free(address);
        },
      };
    },
    async given(feeds) {
      const fed = await residents(feeds);
      return fed.map((r, i) => ({ ...r.value(), release: () => r !== feeds[i] && r.release() }));
    },
    async upload(feeds) {
      const there = await residents(Object.values(feeds));
      return Object.fromEntries(Object.keys(feeds).map((name, i) => [name, there[i]!]));
    },
    adopt(pointer) {
      const type = typeOf(api, pointer);
      const address = bytesIn(type) ? make(ort.GetTensorMutableData, pointer) : 0n;
      const release = once(() => ort.ReleaseValue(pointer));
      return resident({ ...type, pointer, address, release }, release);
    },
    release() {
      unlock(spare);
      if (nought) free(nought.address);
      for (const a of [allocator, locked]) if (a !== api.allocator) ort.ReleaseAllocator(a);
      for (const i of [info, lockedInfo]) ort.ReleaseMemoryInfo(i);
      ort.ReleaseSession(session);
    },
  };
}

/** The session's allocator of a memory; another where the session knows none. */
function allocatorOr(api: Api, session: Pointer, info: Pointer, other: Pointer): Pointer {
  try {
    return api.make(api.ort.CreateAllocator, session, info);
  } catch (error) {
    if (error instanceof OrtError) return other;
    throw error;
  }
}
