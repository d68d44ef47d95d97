/** Plain tensors: what crosses between files, engines and evaluators. Row-major, host memory. */

export const dtypes = {
  float32: { onnx: 1, bytes: 4, array: Float32Array },
  uint8: { onnx: 2, bytes: 1, array: Uint8Array },
  int8: { onnx: 3, bytes: 1, array: Int8Array },
  int32: { onnx: 6, bytes: 4, array: Int32Array },
  int64: { onnx: 7, bytes: 8, array: BigInt64Array },
  bool: { onnx: 9, bytes: 1, array: Uint8Array },
  float16: { onnx: 10, bytes: 2, array: Uint16Array },
  bfloat16: { onnx: 16, bytes: 2, array: Uint16Array },
  float64: { onnx: 11, bytes: 8, array: Float64Array },
} as const;

export type DType = keyof typeof dtypes;
export type TypedArray = InstanceType<(typeof dtypes)[DType]["array"]>;

/** `data` holds prod(shape) elements; bool is 0/1 in a Uint8Array, float16 and bfloat16 raw bits in a Uint16Array. */
export interface Tensor<D extends DType = DType> {
  readonly dtype: D;
  readonly shape: readonly number[];
  readonly data: InstanceType<(typeof dtypes)[D]["array"]>;
}
export type Tensors = Record<string, Tensor>;

export const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** The dtype of an ONNX element type number; throws for one that we do not carry. */
export function dtypeOf(onnx: number): DType {
  const found = (Object.keys(dtypes) as DType[]).find((d) => dtypes[d].onnx === onnx);
  if (!found) throw new Error(`ONNX element type ${onnx} is not one of ${Object.keys(dtypes).join(", ")}.`);
  return found;
}

/** A zeroed tensor. Its buffer is at least 128 bytes: V8 moves typed arrays of up to 64 bytes, which native code must not see. */
export function zeros<D extends DType>(dtype: D, shape: readonly number[]): Tensor<D> {
  const n = sizeOf(shape);
  const buffer = new ArrayBuffer(Math.max(n * dtypes[dtype].bytes, 128));
  return { dtype, shape, data: new dtypes[dtype].array(buffer, 0, n) as Tensor<D>["data"] };
}

/** A tensor from numbers, each rounded to what its dtype can hold. @example tensor("float32", [2, 2], [1, 2, 3, 4]) */
export function tensor<D extends DType>(dtype: D, shape: readonly number[], values: Iterable<number>): Tensor<D> {
  const t = zeros(dtype, shape);
  const encode = encoders[dtype as string];
  let i = 0;
  for (const v of values) t.data[i++] = (encode ? encode(v) : v) as never;
  if (i !== t.data.length) throw new Error(`Expected ${t.data.length} values for shape [${shape}] but received ${i}.`);
  return t;
}

export const scalar = (value: number, dtype: DType = "float32"): Tensor => tensor(dtype, [], [value]);

/** The raw little-endian bytes, without a copy. */
export const bytesOf = (t: Tensor): Uint8Array => new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength);

/** A tensor over a copy of raw little-endian bytes. */
export function fromBytes<D extends DType>(dtype: D, shape: readonly number[], bytes: Uint8Array): Tensor<D> {
  const t = zeros(dtype, shape);
  if (bytes.length !== t.data.byteLength)
    throw new Error(`Expected ${t.data.byteLength} bytes for ${dtype} [${shape}] but received ${bytes.length}.`);
  bytesOf(t).set(bytes);
  return t;
}

/** The same numbers as float32. */
export function toFloat32(t: Tensor): Tensor<"float32"> {
  if (t.dtype === "float32") return t as Tensor<"float32">;
  const read = decoders[t.dtype] ?? Number;
  const out = zeros("float32", t.shape);
  for (let i = 0; i < out.data.length; i++) out.data[i] = read(t.data[i] as number);
  return out;
}

/** The number that 16 bits stand for: sign, 5 bits of exponent, 10 of fraction. */
function halfValue(bits: number): number {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const size =
    exponent === 31
      ? fraction
        ? NaN
        : Infinity
      : exponent
        ? (1 + fraction / 1024) * 2 ** (exponent - 15)
        : fraction * 2 ** -24;
  return bits >> 15 ? -size : size;
}

/** The float16 nearest to a number, the even one of two: sign, 5 bits of exponent, 10 of fraction. */
function halfBits(value: number): number {
  const size = Math.abs(value);
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  if (Number.isNaN(size)) return 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  const exponent = Math.max(Math.floor(Math.log2(size)), -14);
  return sign | (((exponent + 14) << 10) + halfEven(size * 2 ** (10 - exponent)));
}
const halfEven = (x: number): number => (x % 2 === 0.5 ? Math.floor(x) : Math.round(x));

/** bfloat16 is the upper half of a float32. */
function brainValue(bits: number): number {
  word.setUint32(0, bits << 16);
  return word.getFloat32(0);
}
/** The bfloat16 nearest to a number, the even one of two. */
function brainBits(value: number): number {
  if (Number.isNaN(value)) return 0x7fc0;
  word.setFloat32(0, value);
  const bits = word.getUint32(0);
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) / 65536) & 0xffff;
}
const word = new DataView(new ArrayBuffer(4));

/** Element types whose elements are not plain numbers. */
const encoders: Partial<Record<string, (v: number) => number | bigint>> = {
  int64: BigInt,
  float16: halfBits,
  bfloat16: brainBits,
};
const decoders: Partial<Record<DType, (bits: number) => number>> = { float16: halfValue, bfloat16: brainValue };
