/**
 * PyTorch's checkpoints (.pth, .pt): a zip archive of one pickle and the bytes of its storages, or before 1.6 a row of pickles with the
 * storages after them. The pickle is read as data: no class is looked up, no code runs.
 */
import { bytesOf, dtypes, fromBytes, sizeOf, tensor, type DType, type Tensor, type Tensors } from "../tensor.js";
import {
  Call,
  Global,
  Persistent,
  pickledBoolean,
  pickledCall,
  pickledGlobal,
  pickledInteger,
  pickledPersistent,
  pickledString,
  pickledTuple,
  readPickle,
  writePickle,
  type Pickled,
} from "./pickle.js";
import { fromBfloat16 } from "./safetensors.js";
import { readZip, writeZip } from "./zip.js";

/** What a checkpoint may name: containers, tensors, and the small objects that training scripts put beside their weights. */
const known = [
  /^collections (OrderedDict|defaultdict|Counter)$/,
  /^torch (\w+Storage|Size|device|u?int\d+|b?float\d+\w*|bool|half|double|long)$/,
  /^torch\._utils _rebuild_(tensor|tensor_v2|tensor_v3|parameter|parameter_with_state)$/,
  /^torch\.storage (Untyped|Typed)Storage$/,
  /^torch\.nn\.parameter (Parameter|Buffer)$/,
  /^argparse Namespace$/,
  /^pathlib (Pure)?(Posix|Windows)?Path$/,
  /^numpy (dtype|ndarray)$/,
  /^numpy\._?core\.multiarray (scalar|_reconstruct)$/,
  /^_codecs encode$/,
  /^(__builtin__|builtins) (set|frozenset|list|dict|tuple|int|float|bool|complex|bytes|bytearray|object)$/,
  /^(easydict EasyDict|mmcv\.utils\.config ConfigDict|mmengine\.config\.config ConfigDict|addict\.addict Dict)$/,
];

/** How the elements of a storage become a tensor; 16-bit kinds that we do not carry become wider ones. */
interface Kind {
  bytes: number;
  decode(shape: readonly number[], raw: Uint8Array): Tensor;
}
const same = (dtype: DType): Kind => ({
  bytes: dtypes[dtype].bytes,
  decode: (shape, raw) => fromBytes(dtype, shape, raw),
});
const widened = (dtype: DType, bytes: number, element: (view: DataView, at: number) => number): Kind => ({
  bytes,
  decode(shape, raw) {
    const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
    return tensor(
      dtype,
      shape,
      Array.from({ length: sizeOf(shape) }, (_, i) => element(view, bytes * i)),
    );
  },
});
/** By PyTorch's names: [dtype, storage class]. */
const kinds = new Map<string, Kind>(
  (
    [
      ["float32", "Float", same("float32")],
      ["float64", "Double", same("float64")],
      ["float16", "Half", same("float16")],
      ["bfloat16", "BFloat16", { bytes: 2, decode: fromBfloat16 }],
      ["int64", "Long", same("int64")],
      ["int32", "Int", same("int32")],
      ["int16", "Short", widened("int32", 2, (v, at) => v.getInt16(at, true))],
      ["int8", "Char", same("int8")],
      ["uint8", "Byte", same("uint8")],
      ["uint16", "UInt16", widened("int32", 2, (v, at) => v.getUint16(at, true))],
      ["uint32", "UInt32", widened("int64", 4, (v, at) => v.getUint32(at, true))],
      ["bool", "Bool", same("bool")],
    ] as const
  ).flatMap(([dtype, storage, kind]) => [
    [`torch ${dtype}`, kind],
    [`torch ${storage}Storage`, kind],
  ]),
);

/** The tensors of a checkpoint by their path: a nested {"state_dict": {"fc.weight": …}} gives state_dict.fc.weight. bfloat16 becomes float32. */
export function readPth(bytes: Uint8Array): Tensors {
  try {
    const { value, storage } = isZip(bytes) ? zipped(bytes) : legacy(bytes);
    return tensorsIn(value, storage);
  } catch (error) {
    const problem = error instanceof RangeError ? "it is damaged" : (error as Error).message;
    throw new Error(`Not a PyTorch file of weights (${bytes.length} bytes): ${problem}.`, { cause: error });
  }
}

/** The raw bytes of the storage with a key. */
type Storages = (key: string) => Uint8Array;
const allowed = (name: string): boolean => known.some((k) => k.test(name));
const isZip = (bytes: Uint8Array): boolean => bytes[0] === 0x50 && bytes[1] === 0x4b;

/** PREFIX/data.pkl, PREFIX/data/KEY … */
function zipped(bytes: Uint8Array): { value: Pickled; storage: Storages } {
  const entries = readZip(bytes);
  const pickle = [...entries.keys()].find((name) => name.endsWith("/data.pkl"));
  if (!pickle)
    throw new Error(
      [...entries.keys()].some((name) => name.endsWith("/constants.pkl"))
        ? "it is a TorchScript program; save model.state_dict() instead"
        : "the archive holds no data.pkl",
    );
  const folder = pickle.slice(0, -"data.pkl".length);
  const order = entries.get(`${folder}byteorder`);
  if (order && new TextDecoder().decode(order) !== "little") throw new Error("its numbers are big-endian");
  return {
    value: readPickle(entries.get(pickle)!, 0, allowed).value,
    storage(key) {
      const data = entries.get(`${folder}data/${key}`);
      if (!data) throw new Error(`its storage ${key} is missing`);
      return data;
    },
  };
}

const legacyMagic = 0x1950a86a20f9469cfc6cn;
/** Before 1.6: magic, protocol, system, the object and the keys of its storages, each a pickle; then each storage: int64 length, elements. */
function legacy(bytes: Uint8Array): { value: Pickled; storage: Storages } {
  if (new TextDecoder().decode(bytes.subarray(257, 262)) === "ustar")
    throw new Error(
      "it is a tar archive, PyTorch's format before 0.4; load it there and save it again with torch.save",
    );
  if (bytes[0] !== 0x80) throw new Error("it is neither a zip archive nor a pickle");
  let at = 0;
  const next = (): Pickled => {
    const { value, end } = readPickle(bytes, at, allowed);
    at = end;
    return value;
  };
  if (next() !== legacyMagic) throw new Error("it is a pickle, but not one of torch.save");
  next();
  next();
  const value = next();
  const keys = next();
  const kindOf = storageKinds(value);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const data = new Map<string, Uint8Array>();
  for (const key of Array.isArray(keys) ? keys : []) {
    const kind = kindOf.get(String(key));
    if (!kind) throw new Error(`its storage ${String(key)} belongs to no tensor`);
    const length = kind.bytes * Number(view.getBigInt64(at, true));
    if (!(length >= 0) || at + 8 + length > bytes.length) throw new Error(`its storage ${String(key)} is cut short`);
    data.set(String(key), bytes.subarray(at + 8, at + 8 + length));
    at += 8 + length;
  }
  return { value, storage: (key) => data.get(key) ?? new Uint8Array() };
}

/** Every tensor with its path, and how often something is visited at most: a pickle can share a part with itself. */
function* calls(root: Pickled): Generator<[path: string, call: Call]> {
  let visits = 0;
  const stack: [string, Pickled][] = [["", root]];
  while (stack.length) {
    const [path, v] = stack.pop()!;
    if (++visits > 1e6) throw new Error("its parts refer to one another without end");
    const below = (key: Pickled, part: Pickled): [string, Pickled] => [
      path ? `${path}.${String(key)}` : String(key),
      part,
    ];
    if (v instanceof Map) stack.push(...[...v].map(([k, part]) => below(k, part)).reverse());
    else if (Array.isArray(v)) stack.push(...v.map((part, i) => below(i, part)).reverse());
    else if (v instanceof Call && rebuilds(v)) yield [path, v];
    else if (v instanceof Call) stack.push(...[...v.items].map(([k, part]) => below(k, part)).reverse());
  }
}
const rebuilds = ({ callee }: Call): boolean =>
  callee instanceof Global && callee.name.startsWith("torch._utils _rebuild");

/** Arguments of _rebuild_tensor_v2 (and v3, where the dtype stands apart): storage, offset, shape, strides, in elements. */
function described(call: Call): { key: string; kind: Kind; offset: number; shape: number[]; strides: number[] } {
  const { name } = call.callee as Global;
  const [first, offset, shape, strides] = call.args;
  if (name.includes("_rebuild_parameter")) {
    if (first instanceof Call && rebuilds(first)) return described(first);
    throw new Error("one of its parameters holds no tensor");
  }
  const id = first instanceof Persistent ? first.id : undefined;
  if (!Array.isArray(id) || !Array.isArray(shape) || !Array.isArray(strides))
    throw new Error("one of its tensors is damaged");
  const typed = name.endsWith("_v3") ? call.args[6] : id[1];
  const kind = typed instanceof Global ? kinds.get(typed.name) : undefined;
  if (!kind)
    throw new Error(
      `it has tensors of ${typed instanceof Global ? typed.name.replace(" ", ".") : "unknown kind"}, which this does not read`,
    );
  return { key: String(id[2]), kind, offset: Number(offset), shape: shape.map(Number), strides: strides.map(Number) };
}

function storageKinds(value: Pickled): Map<string, Kind> {
  return new Map([...calls(value)].map(([, call]) => described(call)).map(({ key, kind }) => [key, kind]));
}

function tensorsIn(value: Pickled, storage: Storages): Tensors {
  const out: Tensors = {};
  for (const [path, call] of calls(value)) {
    const { key, kind, offset, shape, strides } = described(call);
    const raw = storage(key);
    checkInside(path, raw.length / kind.bytes, offset, shape, strides);
    out[path] = kind.decode(shape, gathered(raw, kind.bytes, offset, shape, strides));
  }
  return out;
}

function checkInside(path: string, length: number, offset: number, shape: number[], strides: number[]): void {
  const sound = (v: number): boolean => Number.isSafeInteger(v) && v >= 0;
  const count = sizeOf(shape);
  const last = shape.reduce((at, d, i) => at + (d - 1) * (strides[i] ?? NaN), offset);
  if (![offset, ...shape, ...strides].every(sound) || (count > 0 && !(last < length)))
    throw new Error(
      `its tensor ${path} [${shape.join(",")}] reaches beyond its storage of ${Math.floor(length)} elements`,
    );
  if (count > 2 ** 28 && count > length)
    throw new Error(`its tensor ${path} repeats ${Math.floor(length)} elements into ${count}`);
}

/** The elements of a strided view in row-major order; without a copy where they lie so already. */
function gathered(raw: Uint8Array, bytes: number, offset: number, shape: number[], strides: number[]): Uint8Array {
  const count = sizeOf(shape);
  let dense = 1;
  const inOrder = shape.reduceRight((same, d, i) => {
    const fits = same && (d === 1 || strides[i] === dense);
    dense *= d;
    return fits;
  }, true);
  if (inOrder) return raw.subarray(bytes * offset, bytes * (offset + count));
  const out = new Uint8Array(bytes * count);
  const index = shape.map(() => 0);
  for (let to = 0, from = offset; to < count; to++) {
    out.set(raw.subarray(bytes * from, bytes * (from + 1)), bytes * to);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      from -= strides[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
  return out;
}

/** What torch.load gives back: plain values and tensors. */
export type Checkpoint =
  null | boolean | number | string | Tensor | readonly Checkpoint[] | { readonly [key: string]: Checkpoint };

const storageOf = {
  float32: "Float",
  float64: "Double",
  float16: "Half",
  bfloat16: "BFloat16",
  int64: "Long",
  int32: "Int",
  int8: "Char",
  uint8: "Byte",
  bool: "Bool",
} as const satisfies Record<DType, string>;

const isTensor = (v: Checkpoint): v is Tensor =>
  typeof v === "object" && v !== null && "dtype" in v && "shape" in v && ArrayBuffer.isView((v as Tensor).data);

/**
 * The bytes of a file that torch.load(weights_only=True) reads: dicts, lists, strings, numbers and tensors.
 * @example await writeFile("resnet18.pth", writePth(tensors));
 */
export function writePth(value: Checkpoint): Uint8Array {
  const storages: Uint8Array[] = [];
  const tensorCall = (t: Tensor): Uint8Array[] => {
    const key = String(storages.push(bytesOf(t)) - 1);
    const id = pickledTuple([
      pickledString("storage"),
      pickledGlobal(`torch ${storageOf[t.dtype]}Storage`),
      pickledString(key),
      pickledString("cpu"),
      pickledInteger(t.data.length),
    ]);
    const strides = t.shape.map((_, i) => sizeOf(t.shape.slice(i + 1)));
    const hooks = pickledCall("collections OrderedDict", pickledTuple([]));
    return pickledCall(
      "torch._utils _rebuild_tensor_v2",
      pickledTuple([
        pickledPersistent(id),
        pickledInteger(0),
        pickledTuple(t.shape.map(pickledInteger)),
        pickledTuple(strides.map(pickledInteger)),
        pickledBoolean(false), // requires_grad
        hooks,
      ]),
    );
  };
  const pickle = writePickle(value, (v) => (isTensor(v) ? tensorCall(v) : undefined));
  return writeZip(
    new Map([
      ["archive/data.pkl", pickle],
      ["archive/byteorder", Buffer.from("little")],
      ...storages.map((data, key): [string, Uint8Array] => [`archive/data/${key}`, data]),
      ["archive/version", Buffer.from("3\n")],
    ]),
  );
}
