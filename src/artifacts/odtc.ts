/** Checkpoints of OrtTrainingApi: a flatbuffer "ODTC", version 2 (ort_training_checkpoint.fbs). Read and written here, unmodified there. */
import { Builder, ByteBuffer } from "flatbuffers";
import { bytesOf, dtypeOf, dtypes, fromBytes, type Tensor, type Tensors } from "../tensor.js";

export interface Checkpoint {
  trainable: Tensors;
  frozen: Tensors;
}

const identifier = "ODTC";
const version = 2;
/** Beyond this ONNX Runtime itself moves to external data, which loading from memory does not support. */
const largest = 1.8e9;

// field slots of the schema's tables
const root = { version: 0, moduleState: 1, fields: 4 };
const moduleState = { trainable: 0, frozen: 1, fields: 4 };
const tensorTable = { name: 0, dims: 2, type: 3, raw: 4, fields: 7 };

/** The bytes of a checkpoint without optimizer state. */
export function writeCheckpoint({ trainable, frozen }: Checkpoint): Uint8Array {
  const tensors = [...Object.values(trainable), ...Object.values(frozen)];
  const total = tensors.reduce((sum, t) => sum + t.data.byteLength, 0);
  if (total > largest)
    throw new Error(
      `A checkpoint holds at most ${largest / 1e9} GB of parameters but received ${(total / 1e9).toFixed(2)} GB.`,
    );
  const b = new Builder(total + 1024 + 256 * tensors.length);
  const trained = tensorVector(b, trainable);
  const fixed = tensorVector(b, frozen);
  b.startObject(moduleState.fields);
  b.addFieldOffset(moduleState.trainable, trained, 0);
  b.addFieldOffset(moduleState.frozen, fixed, 0);
  const state = b.endObject();
  b.startObject(root.fields);
  b.addFieldInt32(root.version, version, 0);
  b.addFieldOffset(root.moduleState, state, 0);
  b.finish(b.endObject(), identifier);
  return b.asUint8Array();
}

function tensorVector(b: Builder, tensors: Tensors): number {
  const offsets = Object.entries(tensors).map(([name, t]) => tensorOffset(b, name, t));
  b.startVector(4, offsets.length, 4);
  for (const offset of offsets.toReversed()) b.addOffset(offset);
  return b.endVector();
}

function tensorOffset(b: Builder, name: string, t: Tensor): number {
  const label = b.createString(name);
  b.startVector(8, t.shape.length, 8);
  for (const d of t.shape.toReversed()) b.addInt64(BigInt(d));
  const dims = b.endVector();
  const raw = b.createByteVector(bytesOf(t));
  b.startObject(tensorTable.fields);
  b.addFieldOffset(tensorTable.name, label, 0);
  b.addFieldOffset(tensorTable.dims, dims, 0);
  b.addFieldInt32(tensorTable.type, dtypes[t.dtype].onnx, 0);
  b.addFieldOffset(tensorTable.raw, raw, 0);
  return b.endObject();
}

/** The parameters in a checkpoint, of ours or SaveCheckpoint's. */
export function readCheckpoint(bytes: Uint8Array): Checkpoint {
  try {
    const bb = new ByteBuffer(bytes);
    if (bytes.length < 16 || !bb.__has_identifier(identifier)) throw new Error(`its identifier is not ${identifier}`);
    const top = bb.readInt32(0);
    const found = field(bb, top, root.version, (at) => bb.readInt32(at)) ?? 0;
    if (found !== version) throw new Error(`its version is ${found}, this reads ${version}`);
    const state = field(bb, top, root.moduleState, (at) => bb.__indirect(at));
    if (state === undefined) throw new Error("it holds no module state");
    return {
      trainable: readVector(bb, state, moduleState.trainable),
      frozen: readVector(bb, state, moduleState.frozen),
    };
  } catch (error) {
    throw new Error(`Not a whole checkpoint (${bytes.length} bytes): ${(error as Error).message}.`, { cause: error });
  }
}

/** Reads slot `slot` of the table at `table`; undefined where it is absent. */
function field<T>(bb: ByteBuffer, table: number, slot: number, read: (at: number) => T): T | undefined {
  const offset = bb.__offset(table, 4 + 2 * slot);
  return offset ? read(table + offset) : undefined;
}

function readVector(bb: ByteBuffer, table: number, slot: number): Tensors {
  return (
    field(bb, table, slot, (at) => {
      const [start, length] = [bb.__vector(at), bb.__vector_len(at)];
      return Object.fromEntries(Array.from({ length }, (_, i) => readTensor(bb, bb.__indirect(start + 4 * i))));
    }) ?? {}
  );
}

function readTensor(bb: ByteBuffer, at: number): [string, Tensor] {
  const name = field(bb, at, tensorTable.name, (p) => bb.__string(p) as string) ?? "";
  const dims = field(bb, at, tensorTable.dims, (p) => {
    const start = bb.__vector(p);
    return Array.from({ length: bb.__vector_len(p) }, (_, i) => Number(bb.readInt64(start + 8 * i)));
  });
  const dtype = dtypeOf(field(bb, at, tensorTable.type, (p) => bb.readInt32(p)) ?? 0);
  const raw = field(bb, at, tensorTable.raw, (p) => {
    const start = bb.__vector(p);
    const length = bb.__vector_len(p);
    if (start + length > bb.capacity()) throw new Error(`"${name}" ends beyond the file`);
    return bb.bytes().subarray(start, start + length);
  });
  return [name, fromBytes(dtype, dims ?? [], raw ?? new Uint8Array())];
}
