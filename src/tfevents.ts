/** TensorBoard's event files, scalars only: TFRecord frames (length, CRC, bytes, CRC) around Event messages of protobuf. */
import { closeSync, openSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { whyUnwritten } from "./checkpoints.js";

/** CRC-32C (Castagnoli), reflected polynomial 0x82F63B78. */
const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let c = byte;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
  return c;
});
export function crc32c(bytes: Uint8Array): number {
  let c = 0xffffffff;
  for (const b of bytes) c = (c >>> 8) ^ table[(c ^ b) & 255]!;
  return ~c >>> 0;
}
/** TFRecord rotates each CRC by 15 bits and adds a constant. */
const masked = (bytes: Uint8Array): Buffer => {
  const crc = crc32c(bytes);
  const out = Buffer.alloc(4);
  out.writeUInt32LE((((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0);
  return out;
};
function frame(bytes: Uint8Array): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  return Buffer.concat([length, masked(length), bytes, masked(bytes)]);
}

// protobuf: a field is a key (number << 3 | wire type) and a value
const varint = (n: number): Buffer => {
  const out: number[] = [];
  for (; n > 127; n = Math.floor(n / 128)) out.push((n % 128) | 128);
  return Buffer.from([...out, n]);
};
const whole = (field: number, n: number): Buffer => Buffer.concat([varint(field << 3), varint(n)]);
const bytes = (field: number, value: Uint8Array | string): Buffer =>
  Buffer.concat([varint((field << 3) | 2), varint(Buffer.byteLength(value)), Buffer.from(value as Uint8Array)]);
const double = (field: number, x: number): Buffer => {
  const out = Buffer.alloc(9, (field << 3) | 1);
  out.writeDoubleLE(x, 1);
  return out;
};
const float = (field: number, x: number): Buffer => {
  const out = Buffer.alloc(5, (field << 3) | 5);
  out.writeFloatLE(x, 1);
  return out;
};
/** Event {1: wall_time, 2: step, 3: file_version | 5: summary {1: value {1: tag, 2: simple_value}} | 7: session_log {1: status}} */
const event = (step: number, what: Buffer): Buffer =>
  frame(Buffer.concat([double(1, Date.now() / 1000), whole(2, step), what]));
const summary = (scalars: Record<string, number>): Buffer =>
  bytes(
    5,
    Buffer.concat(Object.entries(scalars).map(([tag, v]) => bytes(1, Buffer.concat([bytes(1, tag), float(2, v)])))),
  );

export interface Events {
  scalars(step: number, values: Record<string, number>): void;
  close(): void;
}

/** A new event file in `folder`, for steps from `firstStep` on: what older files say of those is void. */
export function eventFile(folder: string, firstStep: number): Events {
  const path = join(folder, `events.out.tfevents.${Math.floor(Date.now() / 1000)}.${hostname()}.${process.pid}`);
  const file = openSync(path, "a");
  const write = (bytes: Buffer): void => {
    try {
      writeSync(file, bytes);
    } catch (error) {
      throw new Error(`${path} could not be written: ${whyUnwritten(error)}.`, { cause: error });
    }
  };
  write(event(0, bytes(3, "brain.Event:2")));
  write(event(firstStep, bytes(7, whole(1, 1)))); // the session starts
  return { scalars: (step, values) => write(event(step, summary(values))), close: () => closeSync(file) };
}
