/** OrtValues over JavaScript memory, and tensors out of OrtValues. */
import { dtypeOf, dtypes, fromBytes, zeros, type DType, type Tensor } from "../../tensor.js";
import { memoryAt, type Api, type Pointer } from "./api.js";

/** An OrtValue over a tensor's own memory: zero-copy both ways. It keeps the tensor alive; release it before dropping it. */
export interface OrtTensor {
  readonly tensor: Tensor;
  readonly pointer: Pointer;
  release(): void;
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

export function ortTensor(api: Api, given: Tensor): OrtTensor {
  const t = pinned(given);
  const dims = new BigInt64Array(new ArrayBuffer(Math.max(8 * t.shape.length, smallestBuffer)), 0, t.shape.length);
  t.shape.forEach((d, i) => (dims[i] = BigInt(d)));
  const type = dtypes[t.dtype].onnx;
  let pointer: Pointer | undefined = api.make(
    api.ort.CreateTensorWithDataAsOrtValue,
    api.cpu,
    t.data,
    t.data.byteLength,
    dims,
    t.shape.length,
    type,
  );
  const live = { tensor: t, pointer: pointer };
  return Object.assign(live, {
    release() {
      if (pointer) api.ort.ReleaseValue(pointer);
      pointer = undefined;
    },
  });
}

/** The dtype and shape of an OrtValue. */
export function typeOf(api: Api, value: Pointer): { dtype: DType; shape: number[] } {
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
    const { dtype, shape } = typeOf(api, value);
    const bytes = shape.reduce((a, b) => a * b, dtypes[dtype].bytes);
    if (bytes === 0) return zeros(dtype, shape);
    const at = api.make(api.ort.GetTensorMutableData, value);
    return fromBytes(dtype, shape, new Uint8Array(memoryAt(at, bytes)));
  } finally {
    api.ort.ReleaseValue(value);
  }
}
