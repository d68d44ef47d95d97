/** OrtValues over JavaScript memory, and tensors out of OrtValues. */
import { dtypeOf, dtypes, fromBytes, sizeOf, zeros, type DType, type Tensor } from "../../tensor.js";
import { memoryAt, type Api, type Pointer } from "./api.js";

export type TensorType = Pick<Tensor, "dtype" | "shape">;

/** An OrtValue, and what has to be known of it. */
export interface Value {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly pointer: Pointer;
  release(): void;
}

/** An OrtValue over a tensor's own memory: zero-copy both ways. It keeps the tensor alive; release it before dropping it. */
export interface OrtTensor extends Value {
  readonly tensor: Tensor;
}

/** Smaller typed arrays live on V8's heap, which moves them: native code must not see those. */
const smallestBuffer = 128;

/** A tensor that native code may hold: itself, or a copy in a buffer of its own where it is small. */
export const pinned = (t: Tensor): Tensor => {
  if (t.data.buffer.byteLength >= smallestBuffer) return t;
  const copy = zeros(t.dtype, t.shape);
  copy.data.set(t.data as never);
  return copy;
};

export const bytesIn = ({ dtype, shape }: TensorType): number => sizeOf(shape) * dtypes[dtype].bytes;

/** A second call does nothing. */
export function once(f: () => void): () => void {
  let left = true;
  return () => {
    if (left) f();
    left = false;
  };
}

/** An OrtValue over bytes that are not its own; `info` says in which memory they lie. */
export function valueOver(
  api: Api,
  info: Pointer,
  { dtype, shape }: TensorType,
  memory: Pointer | Tensor["data"],
  bytes = bytesIn({ dtype, shape }),
): Value {
  const dims = new BigInt64Array(new ArrayBuffer(Math.max(8 * shape.length, smallestBuffer)), 0, shape.length);
  shape.forEach((d, i) => (dims[i] = BigInt(d)));
  const { CreateTensorWithDataAsOrtValue: create } = api.ort;
  const pointer = api.make(create, info, memory, bytes, dims, shape.length, dtypes[dtype].onnx);
  return { dtype, shape, pointer, release: once(() => api.ort.ReleaseValue(pointer)) };
}

export function ortTensor(api: Api, given: Tensor): OrtTensor {
  const tensor = pinned(given);
  return Object.assign(valueOver(api, api.cpu, tensor, tensor.data, tensor.data.byteLength), { tensor });
}

/** The dtype and shape of an OrtValue. */
export function typeOf(api: Api, value: Pointer): TensorType {
  const info = api.make(api.ort.GetTensorTypeAndShape, value);
  const [type, rank]: [[number], [number]] = [[0], [0]];
  api.check(api.ort.GetTensorElementType(info, type));
  api.check(api.ort.GetDimensionsCount(info, rank));
  const dims = new BigInt64Array(new ArrayBuffer(Math.max(8 * rank[0], smallestBuffer)), 0, rank[0]);
  api.check(api.ort.GetDimensions(info, dims, rank[0]));
  api.ort.ReleaseTensorTypeAndShapeInfo(info);
  return { dtype: dtypeOf(type[0]), shape: Array.from(dims, Number) };
}

/** A copy of an OrtValue that the library owns; releases it. */
export function takeValue(api: Api, value: Pointer): Tensor {
  try {
    const type = typeOf(api, value);
    const bytes = bytesIn(type);
    if (bytes === 0) return zeros(type.dtype, type.shape);
    const at = api.make(api.ort.GetTensorMutableData, value);
    return fromBytes(type.dtype, type.shape, new Uint8Array(memoryAt(at, bytes)));
  } finally {
    api.ort.ReleaseValue(value);
  }
}
