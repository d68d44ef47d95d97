/** Pickles as data: a reader that runs nothing, and a writer of what checkpoints hold. Protocol 2 to 5, the opcodes that torch.save uses. */

/** A class or function by name, "torch._utils _rebuild_tensor_v2". Never looked up. */
export class Global {
  constructor(readonly name: string) {}
}
/** A call that was asked for and never made, with what was put into its result. */
export class Call {
  readonly items = new Map<Pickled, Pickled>();
  readonly list: Pickled[] = [];
  state?: Pickled;
  constructor(
    readonly callee: Pickled,
    readonly args: readonly Pickled[],
  ) {}
}
/** A reference to something beside the pickle: a storage. */
export class Persistent {
  constructor(readonly id: Pickled) {}
}
export type Pickled =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Pickled[]
  | Map<Pickled, Pickled>
  | Global
  | Call
  | Persistent;

const misfit = (): Error => new Error("its opcodes do not fit together");
const hex = (code: string): string => `0x${code.charCodeAt(0).toString(16).padStart(2, "0")}`;

/** OrderedDict() is a dict; every other call stays what was asked for. */
const called = ([callee, args]: Pickled[]): Pickled => {
  if (!Array.isArray(args)) throw misfit();
  const empty = callee instanceof Global && callee.name === "collections OrderedDict" && args.length === 0;
  return empty ? new Map() : new Call(callee!, args);
};

/**
 * Reads one pickle from `at`; returns its value and where it ends. `allowed(name)` decides which globals may be named;
 * another, or an opcode that checkpoints do not use, is an error.
 */
export function readPickle(
  bytes: Uint8Array,
  at = 0,
  allowed: (name: string) => boolean = () => true,
): { value: Pickled; end: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const stack: Pickled[] = [];
  const marks: number[] = [];
  const memo = new Map<number, Pickled>();
  const take = (n: number): number => {
    if (!(n >= 0) || at + n > bytes.length) throw new Error(`it ends in the middle, at byte ${bytes.length}`);
    at += n;
    return at - n;
  };
  const pop = (): Pickled => {
    if (stack.length <= (marks.at(-1) ?? 0)) throw misfit();
    return stack.pop()!;
  };
  const top = (): Pickled => {
    if (stack.length === 0) throw misfit();
    return stack.at(-1)!;
  };
  const sinceMark = (): Pickled[] => stack.splice(marks.pop() ?? stack.length);
  const text = (n: number): string => new TextDecoder().decode(bytes.subarray(take(n), at));
  const line = (): string => {
    const end = bytes.indexOf(0x0a, at);
    return text((end < 0 ? bytes.length : end) + 1 - at).trimEnd();
  };
  const data = (n: number): Uint8Array => bytes.slice(take(n), at);
  const u1 = (): number => view.getUint8(take(1));
  const u2 = (): number => view.getUint16(take(2), true);
  const i4 = (): number => view.getInt32(take(4), true);
  const u4 = (): number => view.getUint32(take(4), true);
  const u8 = (): number => Number(view.getBigUint64(take(8), true));
  const long = (n: number): number | bigint => {
    const v = [...data(n)].reduceRight((sum, b) => sum * 256n + BigInt(b), 0n);
    const signed = BigInt.asIntN(8 * n, v);
    return Number.isSafeInteger(Number(signed)) ? Number(signed) : signed;
  };
  const global = (name: string): Global => {
    if (!allowed(name))
      throw new Error(`it asks for ${name.replace(" ", ".")}, which is no part of a file of weights; nothing was run`);
    return new Global(name);
  };
  const setItems = (flat: readonly Pickled[]): void => {
    const target = top();
    const items = target instanceof Map ? target : target instanceof Call ? target.items : undefined;
    if (!items || flat.length % 2) throw misfit();
    for (let i = 0; i < flat.length; i += 2) items.set(flat[i]!, flat[i + 1]!);
  };
  const append = (values: readonly Pickled[]): void => {
    const target = top();
    const list = Array.isArray(target) ? target : target instanceof Call ? target.list : undefined;
    if (!list) throw misfit();
    for (const v of values) list.push(v);
  };
  const build = (state: Pickled): void => {
    const target = top();
    if (target instanceof Call) target.state = state;
  };
  const recall = (key: number): Pickled => {
    if (!memo.has(key)) throw new Error("it refers to a value that it has not made");
    return memo.get(key)!;
  };

  const opcodes: Record<string, () => unknown> = {
    "\x80": () => take(1), // PROTO
    "\x95": () => take(8), // FRAME
    "(": () => marks.push(stack.length),
    // values
    N: () => stack.push(null),
    "\x88": () => stack.push(true),
    "\x89": () => stack.push(false),
    K: () => stack.push(u1()),
    M: () => stack.push(u2()),
    J: () => stack.push(i4()),
    "\x8a": () => stack.push(long(u1())),
    G: () => stack.push(view.getFloat64(take(8))),
    X: () => stack.push(text(u4())),
    "\x8c": () => stack.push(text(u1())),
    "\x8d": () => stack.push(text(u8())),
    U: () => stack.push(text(u1())), // Python 2's str
    T: () => stack.push(text(u4())),
    C: () => stack.push(data(u1())),
    B: () => stack.push(data(u4())),
    "\x8e": () => stack.push(data(u8())),
    // containers
    "}": () => stack.push(new Map()),
    "]": () => stack.push([]),
    "\x8f": () => stack.push([]), // an empty set
    ")": () => stack.push([]),
    "\x85": () => stack.push([pop()]),
    "\x86": () => stack.push([pop(), pop()].reverse()),
    "\x87": () => stack.push([pop(), pop(), pop()].reverse()),
    t: () => stack.push(sinceMark()),
    a: () => append([pop()]),
    e: () => append(sinceMark()),
    "\x90": () => append(sinceMark()),
    s: () => setItems([pop(), pop()].reverse()),
    u: () => setItems(sinceMark()),
    "0": pop,
    // memory
    q: () => memo.set(u1(), top()),
    r: () => memo.set(u4(), top()),
    "\x94": () => memo.set(memo.size, top()),
    h: () => stack.push(recall(u1())),
    j: () => stack.push(recall(u4())),
    // names, calls that are not made, storages
    c: () => stack.push(global(`${line()} ${line()}`)),
    "\x93": () => stack.push(global([pop(), pop()].reverse().join(" "))),
    R: () => stack.push(called([pop(), pop()].reverse())),
    "\x81": () => stack.push(called([pop(), pop()].reverse())),
    b: () => build(pop()),
    Q: () => stack.push(new Persistent(pop())),
  };
  for (;;) {
    const code = String.fromCharCode(u1());
    if (code === ".") return { value: pop(), end: at };
    const opcode = opcodes[code];
    if (!opcode) throw new Error(`it has opcode ${hex(code)}, which files of weights do not use; nothing was run`);
    opcode();
  }
}

const bytesOfNumber = (n: number, write: (view: DataView, n: number) => void, size: number): Uint8Array => {
  const out = new Uint8Array(size);
  write(new DataView(out.buffer), n);
  return out;
};
const uint32 = (n: number): Uint8Array => bytesOfNumber(n, (v, x) => v.setUint32(0, x, true), 4);
const code = (s: string): Uint8Array => Buffer.from(s, "latin1");

/** The opcodes of a string. */
export const pickledString = (s: string): Uint8Array[] => {
  const utf8 = new TextEncoder().encode(s);
  return [code("X"), uint32(utf8.length), utf8];
};
/** The opcodes of a whole number: 4 bytes where it fits, else 8. */
export function pickledInteger(n: number): Uint8Array[] {
  if (n === (n | 0)) return [code("J"), bytesOfNumber(n, (v, x) => v.setInt32(0, x, true), 4)];
  return [code("\x8a\x08"), bytesOfNumber(n, (v, x) => v.setBigInt64(0, BigInt(x), true), 8)];
}
export const pickledBoolean = (b: boolean): Uint8Array[] => [code(b ? "\x88" : "\x89")];
/** The opcodes of a tuple of already pickled parts. */
export const pickledTuple = (parts: readonly Uint8Array[][]): Uint8Array[] => [code("("), ...parts.flat(), code("t")];
/** The opcodes of a call of a global with a tuple of arguments. */
export const pickledCall = (name: string, args: Uint8Array[]): Uint8Array[] => [
  ...pickledGlobal(name),
  ...args,
  code("R"),
];
export const pickledGlobal = (name: string): Uint8Array[] => [code(`c${name.replace(" ", "\n")}\n`)];
export const pickledPersistent = (id: Uint8Array[]): Uint8Array[] => [...id, code("Q")];

/** A whole pickle, protocol 2; `special` writes the values that are not plain. */
export function writePickle<T>(value: T, special: (v: T) => Uint8Array[] | undefined): Uint8Array {
  const written = (v: unknown): Uint8Array[] => {
    const own = special(v as T);
    if (own) return own;
    if (v === null || v === undefined) return [code("N")];
    if (typeof v === "boolean") return pickledBoolean(v);
    if (typeof v === "string") return pickledString(v);
    if (typeof v === "number")
      return Number.isSafeInteger(v)
        ? pickledInteger(v)
        : [code("G"), bytesOfNumber(v, (view, x) => view.setFloat64(0, x), 8)];
    if (Array.isArray(v)) return [code("]("), ...v.flatMap(written), code("e")];
    return [code("}("), ...Object.entries(v).flatMap(([k, x]) => [...pickledString(k), ...written(x)]), code("u")];
  };
  return Buffer.concat([code("\x80\x02"), ...written(value), code(".")]);
}
