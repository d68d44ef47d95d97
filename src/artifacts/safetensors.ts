/** safetensors: 8 bytes of header length, a JSON header, then raw little-endian tensors. Only those three; no code runs. */
import { bytesOf, fromBytes, toFloat32, type DType, type Tensor, type Tensors } from "../tensor.js";

const names = {
  float64: "F64",
  float32: "F32",
  float16: "F16",
  bfloat16: "BF16",
  int64: "I64",
  int32: "I32",
  int8: "I8",
  uint8: "U8",
  bool: "BOOL",
} as const satisfies Record<DType, string>;
const dtypeByName = Object.fromEntries(Object.entries(names).map(([d, n]) => [n, d])) as Record<string, DType>;

export interface Header {
  [name: string]: { dtype: string; shape: number[]; data_offsets: [number, number] };
}

/** The bytes of a file; tensors in the given order, the data 8-aligned. */
export function writeSafetensors(tensors: Tensors, metadata: Record<string, string> = {}): Uint8Array {
  const header: Record<string, unknown> = Object.keys(metadata).length ? { __metadata__: metadata } : {};
  let end = 0;
  for (const [name, t] of Object.entries(tensors)) {
    header[name] = { dtype: names[t.dtype], shape: t.shape, data_offsets: [end, end + t.data.byteLength] };
    end += t.data.byteLength;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const padded = Math.ceil(json.length / 8) * 8;
  const out = new Uint8Array(8 + padded + end);
  new DataView(out.buffer).setBigUint64(0, BigInt(padded), true);
  out.fill(0x20, 8, 8 + padded);
  out.set(json, 8);
  let at = 8 + padded;
  for (const t of Object.values(tensors)) {
    out.set(bytesOf(t), at);
    at += t.data.byteLength;
  }
  return out;
}

/** The tensors and metadata of a file; BF16 becomes float32. */
export function readSafetensors(bytes: Uint8Array): { tensors: Tensors; metadata: Record<string, string> } {
  const { header, start } = readHeader(bytes);
  const { __metadata__: metadata = {}, ...entries } = header as Header & { __metadata__?: Record<string, string> };
  const tensors: Tensors = {};
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(entries as Header)) {
    const [from, to] = data_offsets;
    if (start + to > bytes.length)
      throw new Error(`Not a whole safetensors file: "${name}" ends at byte ${start + to} of ${bytes.length}.`);
    tensors[name] = decoded(name, dtype, shape, bytes.subarray(start + from, start + to));
  }
  return { tensors, metadata: metadata as Record<string, string> };
}

/** The header of a file, from its first bytes on, and where its data starts. */
export function readHeader(bytes: Uint8Array): { header: object; start: number } {
  const length = bytes.length < 8 ? -1 : Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  if (length < 2 || 8 + length > bytes.length)
    throw new Error(
      `Not a safetensors file: ${bytes.length} bytes cannot hold its header${length < 0 ? "" : ` of ${length}`}.`,
    );
  try {
    return { header: JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))) as object, start: 8 + length };
  } catch (error) {
    throw new Error(`Not a safetensors file: its header is not JSON (${(error as Error).message}).`, { cause: error });
  }
}

function decoded(name: string, dtype: string, shape: number[], raw: Uint8Array): Tensor {
  if (dtype === "BF16") return fromBfloat16(shape, raw);
  const known = dtypeByName[dtype];
  if (!known) throw new Error(`"${name}" has dtype ${dtype}; this reads ${Object.values(names).join(", ")}.`);
  return fromBytes(known, shape, raw);
}

/** float32 from the bytes of bfloat16. */
export const fromBfloat16 = (shape: readonly number[], raw: Uint8Array): Tensor =>
  toFloat32(fromBytes("bfloat16", shape, raw));
