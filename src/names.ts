/** Sentences about names that do not exist. */

/** The words that an option may be, where it is one of a few. */
export type Choices<Options> = { readonly [K in keyof Options]?: readonly (Options[K] & string)[] };

/** Edits (insert, delete, replace, swap of neighbours) between two words. */
function distance(a: string, b: string): number {
  const d = Array.from({ length: a.length + 1 }, (_, i) => [i, ...Array<number>(b.length).fill(0)]);
  for (let j = 0; j <= b.length; j++) d[0]![j] = j;
  for (let i = 1; i <= a.length; i++)
    for (let j = 1; j <= b.length; j++) {
      const replaced = d[i - 1]![j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      d[i]![j] = Math.min(d[i - 1]![j]! + 1, d[i]![j - 1]! + 1, replaced);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        d[i]![j] = Math.min(d[i]![j]!, d[i - 2]![j - 2]! + 1);
    }
  return d[a.length]![b.length]!;
}

/** Unknown method "dencecl". Did you mean densecl? Available: … */
export function unknownName(kind: string, name: string, known: readonly string[]): string {
  const nearest = [...known].sort((a, b) => distance(name, a) - distance(name, b))[0];
  const hint =
    nearest !== undefined && distance(name, nearest) <= Math.max(2, name.length / 3) ? ` Did you mean ${nearest}?` : "";
  return `Unknown ${kind} "${name}".${hint} Available: ${[...known].sort().join(", ")}.`;
}

/** The names of a record. */
export const keysOf = <K extends string>(record: Readonly<Record<K, unknown>>): K[] => Object.keys(record) as K[];

/** The entry of a record by name; a name that it does not have throws the sentence above. */
export function oneOf<T>(kind: string, name: string, record: Readonly<Record<string, T>>): T {
  if (!Object.hasOwn(record, name)) throw new Error(unknownName(kind, name, Object.keys(record)));
  return record[name]!;
}
