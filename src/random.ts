/** Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011). The same key always gives the same stream. */

const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;

/** a·b of two uint32 as [high, low]. */
function mulhilo(a: number, b: number): [number, number] {
  const al = a & 0xffff;
  const ah = a >>> 16;
  const bl = b & 0xffff;
  const bh = b >>> 16;
  const ll = al * bl;
  const mid = ah * bl + (ll >>> 16);
  const low = al * bh + (mid & 0xffff);
  return [(ah * bh + Math.floor(mid / 65536) + Math.floor(low / 65536)) >>> 0, Math.imul(a, b) >>> 0];
}

/** Ten rounds of Philox4x32 on a 128-bit counter with a 64-bit key. */
export function philox(counter: readonly number[], key: readonly number[]): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter as [number, number, number, number];
  let [k0, k1] = key as [number, number];
  for (let round = 0; round < 10; round++) {
    const [h0, l0] = mulhilo(M0, c0);
    const [h1, l1] = mulhilo(M1, c2);
    [c0, c1, c2, c3] = [(h1 ^ c1 ^ k0) >>> 0, l1, (h0 ^ c3 ^ k1) >>> 0, l0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** 32-bit FNV-1a of a string, for keying streams by name. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
}

/** A stream of random numbers, a pure function of (seed, purpose, index…). */
export interface Random {
  /** The next uint32. */
  bits(): number;
  /** Uniform in [low, high), default [0, 1). */
  uniform(low?: number, high?: number): number;
  /** A uniform integer in [0, n). */
  integer(n: number): number;
  /** Standard normal (Box–Muller). */
  normal(): number;
  /** A uniform permutation of 0…n−1 (Fisher–Yates). */
  permutation(n: number): Int32Array;
  /** An independent stream named by the parts. */
  child(...parts: (string | number)[]): Random;
}

/**
 * @example const r = random(0, "augment", epoch, image); r.uniform(0.2, 1)
 */
export function random(seed: number, ...parts: (string | number)[]): Random {
  const path = parts.join("/");
  const key = [seed >>> 0, hash(path)];
  const high = [hash(`${path}#`), Math.floor(seed / 4294967296) >>> 0];
  let block = 0;
  let buffer: number[] = [];
  let spare: number | undefined;
  const bits = (): number => {
    if (buffer.length === 0) buffer = philox([block >>> 0, Math.floor(block++ / 4294967296), ...high], key).reverse();
    return buffer.pop()!;
  };
  // 53 random bits
  const unit = (): number => ((bits() >>> 5) * 67108864 + (bits() >>> 6)) / 9007199254740992;
  const integer = (n: number): number => Math.floor(unit() * n);
  return {
    bits,
    uniform: (low = 0, high = 1) => low + (high - low) * unit(),
    integer,
    normal() {
      if (spare !== undefined) {
        const value = spare;
        spare = undefined;
        return value;
      }
      const r = Math.sqrt(-2 * Math.log(1 - unit()));
      const a = 2 * Math.PI * unit();
      spare = r * Math.sin(a);
      return r * Math.cos(a);
    },
    permutation(n) {
      const p = Int32Array.from({ length: n }, (_, i) => i);
      for (let i = n - 1; i > 0; i--) {
        const j = integer(i + 1);
        [p[i], p[j]] = [p[j]!, p[i]!];
      }
      return p;
    },
    child: (...more) => random(seed, ...parts, ...more),
  };
}
