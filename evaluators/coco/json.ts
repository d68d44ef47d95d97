/**
 * JSON read byte by byte through a window that slides over the source: nothing is held but what the reader keeps. As Python's json it knows NaN and
 * Infinity; what is skipped is only checked for its brackets.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";

/** Bytes by position: a file, or memory. */
export interface Source {
  /** As errors call it. */
  name: string;
  size: number;
  /** Fills the target from a position on and returns how many bytes there were. */
  read(target: Uint8Array, position: number): number;
  close(): void;
}

export function fileSource(path: string): Source {
  try {
    const file = openSync(path, "r");
    return {
      name: path,
      size: fstatSync(file).size,
      read: (target, position) => readSync(file, target, 0, target.length, position),
      close: () => closeSync(file),
    };
  } catch (e) {
    throw new Error(`${path} cannot be read: ${(e as Error).message}`, { cause: e });
  }
}

export function bytesSource(name: string, bytes: Uint8Array): Source {
  return {
    name,
    size: bytes.length,
    read(target, position) {
      const part = bytes.subarray(position, position + target.length);
      target.set(part);
      return part.length;
    },
    close() {},
  };
}

const [quote, minus, dot, comma, colon, backslash, zero, nine] = [34, 45, 46, 44, 58, 92, 48, 57] as const;
const openBracket = 91;
const openBrace = 123;
/** ']' follows '[' and '}' follows '{' at the same distance. */
const closing = 2;

/** Powers of ten that a double holds exactly. */
const tens = Float64Array.from({ length: 23 }, (_, i) => Number(`1e${i}`));

/** Thrown where the window ends inside a value, and caught where that value began. */
const cut = Symbol("the window ends here");

/** The bytes of keys in their quotes, for `key`. */
export const keys = (...names: string[]): Uint8Array[] => names.map((n) => new TextEncoder().encode(`"${n}"`));

/** Whether four bytes belong to numbers and commas: each has bit 3 or 4 and none bit 6, as no bracket, brace, quote, letter, space or 0 has. */
const numeric = (word: number): boolean => ((word | (word >>> 1)) & 0x48484848) === 0x08080808;

export class JsonReader {
  /** The window; a 0, which no JSON holds outside strings, stands behind its last byte. */
  bytes!: Uint8Array;
  /** The same, by fours. */
  private words!: Uint32Array;
  at = 0;
  private end = 0;
  /** The window holds the source's last byte. */
  private ended = false;
  /** Position of the window's first byte in the source. */
  private base = 0;
  /** What is being read, as errors call it: the array and the entry in it. */
  private list = "";
  private entry = -1;

  constructor(
    private readonly source: Source,
    window = 1 << 20,
  ) {
    this.resize(window);
    this.refill();
    if (this.bytes[0] === 0xef && this.bytes[1] === 0xbb && this.bytes[2] === 0xbf) this.at = 3;
  }

  private resize(window: number): void {
    this.words = new Uint32Array((window >> 2) + 1);
    this.bytes = new Uint8Array(this.words.buffer, 0, window + 1);
  }

  /** Slides the window to where the reader is; a window that is full already doubles. */
  private refill(): void {
    const kept = this.bytes.subarray(this.at, this.end);
    if (kept.length === this.bytes.length - 1) this.resize(2 * kept.length);
    this.bytes.set(kept);
    this.base += this.at;
    const read = this.source.read(this.bytes.subarray(kept.length, -1), this.base + kept.length);
    [this.at, this.end] = [0, kept.length + read];
    this.ended = read === 0 || this.base + this.end >= this.source.size;
    this.bytes[this.end] = 0;
  }

  /** Runs `read` with all that it needs in the window; it may run twice. */
  private whole<T>(read: () => T): T {
    for (;;) {
      const from = this.at;
      try {
        return read();
      } catch (e) {
        if (e !== cut) throw e;
        this.at = from;
        this.refill();
      }
    }
  }

  /** Ends in a sentence that names the place. */
  fail(problem: string, at = this.at): never {
    throw new Error(`${this.source.name}: ${this.place()} (byte ${this.base + at}, line ${this.line(at)}) ${problem}.`);
  }
  private place(): string {
    return this.entry < 0 ? "the file" : `${this.list}[${this.entry}]`;
  }
  private line(at: number): number {
    const chunk = new Uint8Array(1 << 16);
    let line = 1;
    for (let p = 0; p < this.base + at; p += chunk.length) {
      const part = chunk.subarray(0, Math.min(this.source.read(chunk, p), this.base + at - p));
      for (const b of part) if (b === 10) line++;
    }
    return line;
  }
  /** Wants something else than the byte that stands here. */
  private expected(what: string): never {
    if (this.at >= this.end && !this.ended) throw cut;
    if (this.at >= this.end) this.fail(`ends where ${what} is expected; is it cut short`);
    const found = String.fromCharCode(this.bytes[this.at]!);
    return this.fail(`has ${JSON.stringify(found)} where ${what} is expected`);
  }

  /** The first byte that is no white space. */
  private peek(): number {
    let c = this.bytes[this.at]!;
    while (c === 32 || c === 10 || c === 13 || c === 9) c = this.bytes[++this.at]!;
    return c;
  }
  private opens(open: number): boolean {
    if (this.peek() !== open) this.expected(open === openBrace ? "an object" : "an array");
    this.at++;
    if (this.peek() !== open + closing) return true;
    this.at++;
    return false;
  }
  private continues(open: number): boolean {
    const c = this.peek();
    if (c !== comma && c !== open + closing) this.expected(`"," or "${String.fromCharCode(open + closing)}"`);
    this.at++;
    return c === comma;
  }
  /** `if (r.openArray()) do … while (r.moreElements())`: one turn an element. */
  openArray(): boolean {
    return this.opens(openBracket);
  }
  moreElements(): boolean {
    return this.continues(openBracket);
  }
  /** `if (r.openObject()) do switch (r.key(…)) … while (r.moreKeys())`: one turn a key. */
  openObject(): boolean {
    return this.opens(openBrace);
  }
  moreKeys(): boolean {
    return this.continues(openBrace);
  }

  /** Which of the known keys stands here, or −1; the reader then stands before its value. */
  key(known: readonly Uint8Array[]): number {
    if (this.peek() !== quote) this.expected("a key");
    const k = this.known(known);
    if (k < 0) this.skipString();
    if (this.peek() !== colon) this.expected('":"');
    this.at++;
    return k;
  }
  /** Reads the key if it is a known one. */
  private known(known: readonly Uint8Array[]): number {
    const { bytes, at } = this;
    for (let k = 0; k < known.length; k++) {
      const name = known[k]!;
      let i = 0;
      while (i < name.length && name[i] === bytes[at + i]) i++;
      if (i < name.length) continue;
      this.at += i;
      return k;
    }
    return -1;
  }

  /** An array of objects far longer than the window: `read` meets each with all of it in the window, and may meet one twice. Returns how many there were. */
  each(list: string, read: (index: number) => void): number {
    let n = 0;
    const one = (): boolean => {
      this.list = list;
      this.entry = n;
      if (!(n === 0 ? this.openArray() : this.moreElements())) return false;
      read(n);
      return true;
    };
    while (this.whole(one)) n++;
    this.entry = -1;
    return n;
  }
  /** The outermost object: `read` meets the index of each key, and reads its value with `each` or `skipTop`. */
  top(known: readonly Uint8Array[], read: (key: number) => void): void {
    let first = true;
    const next = (): number | undefined =>
      (first ? this.openObject() : this.moreKeys()) ? this.key(known) : undefined;
    for (let key = this.whole(next); key !== undefined; key = this.whole(next)) {
      first = false;
      read(key);
    }
  }
  /** A value of the outermost object that nobody wants; of a long array no more than an element is held. */
  skipTop(): void {
    if (this.whole(() => (this.peek() || this.expected("a value")) === openBracket)) this.each("", () => this.skip());
    else this.whole(() => this.skip());
  }
  /** Whether the outermost value is an object; fails where nothing follows. */
  isObject(): boolean {
    return this.whole(() => (this.peek() || this.expected("a value")) === openBrace);
  }
  /** Nothing but white space may follow. */
  finish(): void {
    this.whole(() => {
      if (this.peek() !== 0 || this.at < this.end) this.fail("goes on after its end");
      this.mayGoOn();
    });
  }

  /** A number; true and false are 1 and 0. */
  number(): number {
    const b = this.bytes;
    let c = this.peek();
    const from = this.at;
    let i = from;
    if (c === minus) c = b[++i]!;
    const digits = i;
    let m = 0;
    while (c >= zero && c <= nine) {
      m = m * 10 + (c - zero);
      c = b[++i]!;
    }
    if (i === digits) return this.literal();
    let scale = 0;
    if (c === dot) {
      const point = i;
      c = b[++i]!;
      while (c >= zero && c <= nine) {
        m = m * 10 + (c - zero);
        c = b[++i]!;
      }
      scale = i - point - 1;
    }
    if (c === 101 || c === 69 || m > Number.MAX_SAFE_INTEGER || scale > 22) return this.roundedNumber(from);
    this.at = i;
    if (i === this.end) this.mayGoOn();
    const value = scale === 0 ? m : m / tens[scale]!; // both exact, so the quotient is rounded once
    return digits > from ? -value : value;
  }
  /** A number of more digits than a double holds, or with an exponent: rounded by the engine's own parser. */
  private roundedNumber(from: number): number {
    let i = from;
    while (/[-+.0-9eE]/.test(String.fromCharCode(this.bytes[i]!))) i++;
    this.at = i;
    if (i === this.end) this.mayGoOn();
    const text = String.fromCharCode(...this.bytes.subarray(from, i));
    const value = Number(text);
    return Number.isNaN(value) ? this.fail(`has ${text} where a number is expected`, from) : value;
  }
  private mayGoOn(): void {
    if (!this.ended) throw cut;
  }
  private literal(): number {
    for (const [text, value] of literals) {
      let i = 0;
      while (i < text.length && this.bytes[this.at + i] === text.charCodeAt(i)) i++;
      if (this.at + i === this.end && !this.ended) throw cut;
      if (i < text.length) continue;
      this.at += i;
      return value;
    }
    return this.expected("a number");
  }

  /** Whether the next value is null, which is then read. */
  isNull(): boolean {
    if (this.peek() !== 110) return false;
    this.skip();
    return true;
  }
  isString(): boolean {
    return this.peek() === quote;
  }
  isArray(): boolean {
    return this.peek() === openBracket;
  }

  /** A string's text. */
  string(): string {
    if (this.peek() !== quote) this.expected("a string");
    const from = this.at;
    this.skipString();
    return JSON.parse(new TextDecoder().decode(this.bytes.subarray(from, this.at))) as string;
  }
  private skipString(): void {
    const b = this.bytes;
    let i = this.at + 1;
    let c = b[i]!;
    while (c !== quote) {
      if (c === backslash) c = b[++i]!;
      if (c < 32) {
        this.at = i;
        this.expected("the end of a string");
      }
      c = b[++i]!;
    }
    this.at = i + 1;
  }

  /** Copies the characters of an ASCII string to `into` and returns how many there were; at least as many bytes as the window holds must fit. */
  ascii(into: Uint8Array, to: number): number {
    if (this.peek() !== quote) this.expected("a string");
    const from = this.at + 1;
    this.skipString();
    const b = this.bytes;
    const stop = this.at - 1;
    let n = to;
    for (let i = from; i < stop; i++) {
      if (b[i] === backslash && b[++i] !== backslash) this.fail("has an escape that run lengths never need", i);
      into[n++] = b[i]!;
    }
    return n - to;
  }

  /** Any value, unread: of an array or object only the brackets and strings are looked at. */
  skip(): void {
    const c = this.peek();
    if (c === quote) return this.skipString();
    if (c !== openBracket && c !== openBrace) return this.skipScalar();
    const { bytes: b, words } = this;
    let i = this.at;
    let depth = 0;
    do {
      if ((i & 3) === 0) {
        let w = i >> 2;
        while (numeric(words[w]!)) w++;
        i = w << 2;
      }
      const c = b[i]!;
      const bracket = c | 32; // '[' and ']' become '{' and '}'
      if (bracket === openBrace) depth++;
      else if (bracket === openBrace + closing) depth--;
      else if (c === quote) {
        this.at = i;
        this.skipString();
        i = this.at;
        continue;
      } else if (c === 0) {
        this.at = i;
        this.expected('"]" or "}"');
      }
      i++;
    } while (depth > 0);
    this.at = i;
  }
  private skipScalar(): void {
    const from = this.at;
    while (/[-+.\w]/.test(String.fromCharCode(this.bytes[this.at]!))) this.at++;
    if (this.at === this.end) this.mayGoOn();
    if (this.at === from) this.expected("a value");
  }
}

const literals: [string, number][] = [
  ["true", 1],
  ["false", 0],
  ["NaN", NaN],
  ["Infinity", Infinity],
  ["-Infinity", -Infinity],
];
