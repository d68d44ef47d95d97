/** What a check found: how far the device is from the CPU. */
export interface Check {
  check: string;
  compared: number;
  /** Largest difference in units of its tolerance, and where; above 1 is a failure. */
  worst: number;
  where: string;
  /** Sentences. */
  failed: string[];
}

/** Gathers comparisons into a check. */
export function checking(check: string) {
  const found: Check = { check, compared: 0, worst: 0, where: "", failed: [] };
  return {
    found,
    /** `actual` against `expected`, off by at most `tolerance` times 1 + the largest expected number. */
    compare(
      where: string,
      actual: ArrayLike<number | bigint>,
      expected: ArrayLike<number | bigint>,
      tolerance: number,
    ) {
      const [a, b] = [actual, expected].map((v) => Array.from(v, Number)) as [number[], number[]];
      const largest = b.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
      const off = b.reduce((m, v, i) => larger(m, Math.abs(a[i]! - v)), 0) / (1 + largest);
      found.compared++;
      const worst = off / tolerance;
      if (!(worst <= found.worst)) [found.worst, found.where] = [worst, where];
      if (!(worst <= 1)) found.failed.push(`${where} is off by ${off.toPrecision(3)}, where ${tolerance} is allowed.`);
    },
    /** Something that must hold. */
    expect(holds: boolean, sentence: string) {
      found.compared++;
      if (!holds) found.failed.push(sentence);
    },
    /** What must not end in an error. */
    async attempt(where: string, run: () => Promise<void>) {
      await run().catch((error: Error) => found.failed.push(`${where}: ${error.message}`));
    },
  };
}

/** Math.max, with NaN above all: a number that is none is as far off as can be. */
const larger = (a: number, b: number): number => (Number.isNaN(b) || Number.isNaN(a) ? Infinity : Math.max(a, b));
