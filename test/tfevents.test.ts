import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32c, eventFile } from "../src/tfevents.js";

/** CRC-32C by long division, bit after bit. */
function divided(data: Uint8Array): number {
  let rest = 0xffffffffn;
  for (const byte of data)
    for (let bit = 0; bit < 8; bit++) {
      const odd = (rest ^ (BigInt(byte) >> BigInt(bit))) & 1n;
      rest = (rest >> 1n) ^ (odd ? 0x82f63b78n : 0n);
    }
  return Number(rest ^ 0xffffffffn);
}
const unmasked = (word: number): number => {
  const rotated = (word - 0xa282ead8) >>> 0;
  return ((rotated >>> 17) | (rotated << 15)) >>> 0;
};

type Field = number | bigint | Buffer;
/** Fields of a protobuf message, whatever it means: number → values. */
function fields(message: Buffer): Map<number, Field[]> {
  const out = new Map<number, Field[]>();
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = message[at++]!;
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const key = Number(varint());
    let value: Field;
    if ((key & 7) === 0) value = varint();
    else if ((key & 7) === 1) value = message.readDoubleLE((at += 8) - 8);
    else if ((key & 7) === 5) value = message.readFloatLE((at += 4) - 4);
    else {
      const length = Number(varint());
      value = message.subarray(at, (at += length));
    }
    out.set(key >> 3, [...(out.get(key >> 3) ?? []), value]);
  }
  return out;
}
/** Messages of a TFRecord file, their checksums compared. */
function records(file: Buffer): Buffer[] {
  const out: Buffer[] = [];
  for (let at = 0; at < file.length;) {
    const length = Number(file.readBigUInt64LE(at));
    const data = file.subarray(at + 12, at + 12 + length);
    assert.equal(unmasked(file.readUInt32LE(at + 8)), divided(file.subarray(at, at + 8)));
    assert.equal(unmasked(file.readUInt32LE(at + 12 + length)), divided(data));
    out.push(data);
    at += 16 + length;
  }
  return out;
}

describe("TensorBoard's event files", () => {
  it("have the checksums of RFC 3720, appendix B.4", () => {
    assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
    assert.equal(crc32c(new Uint8Array(32).fill(255)), 0x62a8ab43);
    assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
  });
  it("hold a version, a start, and each scalar at its step", () => {
    const folder = mkdtempSync(join(tmpdir(), "events-"));
    const events = eventFile(folder, 301);
    events.scalars(301, { loss: 2.5, lr: 0.125 });
    events.scalars(5_000_000_000, { "kNN top1": -0.1 });
    events.close();
    const [name] = readdirSync(folder);
    assert.match(name!, /^events\.out\.tfevents\.\d{10}\./);
    const read = records(readFileSync(join(folder, name!))).map(fields);
    rmSync(folder, { recursive: true });
    for (const f of read) assert.ok(Math.abs((f.get(1)![0] as number) - Date.now() / 1000) < 60);
    assert.equal(String(read[0]!.get(3)![0]), "brain.Event:2");
    assert.deepEqual(
      read.map((f) => f.get(2)![0]),
      [0n, 301n, 301n, 5_000_000_000n],
    );
    assert.deepEqual(fields(read[1]!.get(7)![0] as Buffer).get(1), [1n]);
    const scalars = read.slice(2).map((f) =>
      fields(f.get(5)![0] as Buffer)
        .get(1)!
        .map((value) => fields(value as Buffer))
        .map((value) => [String(value.get(1)![0]), value.get(2)![0]]),
    );
    assert.deepEqual(scalars, [
      [
        ["loss", 2.5],
        ["lr", 0.125],
      ],
      [["kNN top1", Math.fround(-0.1)]],
    ]);
  });
});
