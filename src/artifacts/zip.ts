/** Zip archives of stored (uncompressed) entries, as PyTorch writes its checkpoints. */
import { crc32 } from "node:zlib";

const signatures = { local: 0x04034b50, central: 0x02014b50, end: 0x06054b50, end64: 0x06064b50 };
/** Archives larger than this need the 64-bit fields, which the writer does not have. */
const largest = 2 ** 32 - 1;

/** The entries of an archive by name, as views into its bytes. */
export function readZip(bytes: Uint8Array): Map<string, Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries = new Map<string, Uint8Array>();
  let { at, count } = directoryOf(view);
  for (; count > 0; count--) {
    if (view.getUint32(at, true) !== signatures.central) throw new Error("its list of entries is damaged");
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((o) => view.getUint16(at + o, true)) as number[];
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength!));
    if (view.getUint16(at + 10, true) !== 0)
      throw new Error(`its entry ${name} is compressed, which PyTorch never does`);
    const { size, offset } = place(view, at, at + 46 + nameLength!, extraLength!);
    const start = offset + 30 + view.getUint16(offset + 26, true) + view.getUint16(offset + 28, true);
    if (start + size > bytes.length) throw new Error(`its entry ${name} ends beyond the file`);
    entries.set(name, bytes.subarray(start, start + size));
    at += 46 + nameLength! + extraLength! + commentLength!;
  }
  return entries;
}

/** Where the list of entries begins and how many it has, from the record at the archive's end. */
function directoryOf(view: DataView): { at: number; count: number } {
  const last = view.byteLength - 22;
  for (let end = last; end >= Math.max(0, last - 65535); end--) {
    if (view.getUint32(end, true) !== signatures.end) continue;
    const [count, at] = [view.getUint16(end + 10, true), view.getUint32(end + 16, true)];
    if (count < 0xffff && at < 0xffffffff) return { at, count };
    const wide = Number(view.getBigUint64(end - 20 + 8, true)); // the locator stands before the record
    if (view.getUint32(wide, true) !== signatures.end64) throw new Error("its 64-bit list of entries is damaged");
    return { count: Number(view.getBigUint64(wide + 32, true)), at: Number(view.getBigUint64(wide + 48, true)) };
  }
  throw new Error("it is no whole zip archive");
}

/** Size and offset of an entry; fields of all ones stand in the 64-bit extra field instead, in this order: full size, size, offset. */
function place(view: DataView, at: number, extra: number, extraLength: number): { size: number; offset: number } {
  let [size, offset] = [view.getUint32(at + 20, true), view.getUint32(at + 42, true)];
  for (let i = extra; i + 4 <= extra + extraLength; i += 4 + view.getUint16(i + 2, true)) {
    if (view.getUint16(i, true) !== 1) continue;
    let next = i + 4;
    const wide = (): number => Number(view.getBigUint64((next += 8) - 8, true));
    if (view.getUint32(at + 24, true) === 0xffffffff) wide();
    if (size === 0xffffffff) size = wide();
    if (offset === 0xffffffff) offset = wide();
  }
  return { size, offset };
}

/** An archive of stored entries, each entry's data beginning at a multiple of 64 bytes, so that it can be mapped. */
export function writeZip(entries: ReadonlyMap<string, Uint8Array>): Uint8Array {
  const parts: Uint8Array[] = [];
  const central: Uint8Array[] = [];
  let at = 0;
  for (const [name, data] of entries) {
    const path = new TextEncoder().encode(name);
    const padding = 64 - ((at + 30 + path.length + 4) % 64);
    const header = new Uint8Array(30 + path.length + 4 + padding);
    const common = [20, 0, 0, 0, 0x21, crc32(data), data.length, data.length, path.length] as const;
    fields(header, [4, signatures.local], ...widths(common), [2, 4 + padding]);
    header.set(path, 30);
    fields(header.subarray(30 + path.length), [2, 0x4246], [2, padding]); // an extra field "FB" of zeros, PyTorch's own
    const entry = new Uint8Array(46 + path.length);
    fields(entry, [4, signatures.central], [2, 20], ...widths(common), [2, 0], [2, 0], [2, 0], [2, 0], [4, 0], [4, at]);
    entry.set(path, 46);
    central.push(entry);
    parts.push(header, data);
    at += header.length + data.length;
  }
  const size = central.reduce((n, e) => n + e.length, 0);
  if (at + size > largest)
    throw new Error(`Expected less than 4 GiB for a zip archive but received ${at + size} bytes.`);
  const end = new Uint8Array(22);
  fields(end, [4, signatures.end], [2, 0], [2, 0], [2, entries.size], [2, entries.size], [4, size], [4, at], [2, 0]);
  return Buffer.concat([...parts, ...central, end]);
}

type Field = readonly [bytes: 2 | 4, value: number];
/** Version, flags, method, time, date, checksum, sizes and name length, as local headers and the list both have them. */
const widths = (v: readonly number[]): Field[] => v.map((value, i) => [i >= 5 && i <= 7 ? 4 : 2, value]);

/** Little-endian fields one after the other from the start. */
function fields(into: Uint8Array, ...list: Field[]): void {
  const view = new DataView(into.buffer, into.byteOffset, into.byteLength);
  let at = 0;
  for (const [bytes, value] of list) {
    if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += bytes;
  }
}
