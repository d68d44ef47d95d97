/** Batches of decoded images: a seeded order, decoding ahead of the step, broken files replaced by a rule that a resumed run repeats. */
import { random } from "../random.js";
import type { Dataset, Image } from "./dataset.js";

/** The order of an epoch: a pure function of (seed, epoch). */
export const epochOrder = (seed: number, epoch: number, n: number): Int32Array =>
  random(seed, "order", epoch).permutation(n);

export interface Batch {
  epoch: number;
  batch: number;
  indices: number[];
  images: Image[];
}

export interface LoaderOptions {
  batchSize: number;
  seed: number;
  /** Batches decoded ahead; default 2. */
  ahead?: number;
  /** Indices known to be broken, from a run's progress; grows as more are met. */
  broken?: Set<number>;
  /** Said once for each file that turns out broken. */
  onBroken?: (key: string, reason: string) => void;
}

export interface Loader {
  readonly batchesPerEpoch: number;
  readonly broken: ReadonlySet<number>;
  /** Milliseconds that `next` made the caller wait so far. */
  readonly waited: number;
  /** Batches from (epoch, batch) on, without end; prefetching. */
  from(epoch: number, batch: number): AsyncGenerator<Batch, never>;
}

/**
 * Batch b of an epoch takes entries [bB, (b+1)B) of the epoch's order. A place whose file is broken takes the next unused entry of
 * the order after the last whole batch, then, when that tail is used up, of the epoch's own beginning. Which entry that is depends
 * only on the broken places before it in the epoch: a resumed run, told the broken indices, makes the same choices.
 */
export function loader(data: Dataset, options: LoaderOptions): Loader {
  const { batchSize, seed, ahead = 2, broken = new Set(), onBroken } = options;
  const batchesPerEpoch = Math.floor(data.length / batchSize);
  if (batchesPerEpoch === 0)
    throw new Error(
      `A batch of ${batchSize} is larger than the data: ${data.length} images. Lower it with --batch-size.`,
    );
  let waited = 0;

  /** Decodes one index; undefined where it is broken, which is remembered. */
  const attempt = async (i: number): Promise<Image | undefined> => {
    if (broken.has(i)) return undefined;
    try {
      return await data.image(i);
    } catch (error) {
      broken.add(i);
      onBroken?.(data.key(i), (error as Error).message.split("\n")[0]!);
      return undefined;
    }
  };

  /** Batches of one epoch in order; substitutes are drawn one batch after the other, so that who gets which is settled. */
  function* epochBatches(epoch: number, first: number): Generator<Promise<Batch>> {
    const order = epochOrder(seed, epoch, data.length);
    const spares = [...order.subarray(batchesPerEpoch * batchSize), ...order];
    let spare = 0;
    const substitute = async (): Promise<[number, Image]> => {
      while (spare < spares.length) {
        const i = spares[spare++]!;
        const image = await attempt(i);
        if (image) return [i, image];
      }
      throw new Error(`Too few of the ${data.length} images can be read: ${broken.size} are broken.`);
    };
    /** What batches before the first took from the spares. */
    const replay = async (): Promise<void> => {
      for (const i of order.subarray(0, first * batchSize)) if (broken.has(i)) await substitute();
    };
    let previous: Promise<unknown> = replay();
    for (let b = first; b < batchesPerEpoch; b++) {
      const indices = [...order.subarray(b * batchSize, (b + 1) * batchSize)];
      const decoding = Promise.all(indices.map(attempt));
      const before = previous;
      const made = (async (): Promise<Batch> => {
        const images = await decoding;
        await before;
        for (let k = 0; k < images.length; k++) if (!images[k]) [indices[k], images[k]] = await substitute();
        return { epoch, batch: b, indices, images: images as Image[] };
      })();
      previous = made.catch(() => undefined);
      yield made;
    }
  }

  return {
    batchesPerEpoch,
    broken,
    get waited() {
      return waited;
    },
    async *from(startEpoch, startBatch) {
      const queue: Promise<Batch>[] = [];
      let epoch = startEpoch;
      let source = epochBatches(epoch, startBatch);
      for (;;) {
        while (queue.length < ahead) {
          const next = source.next();
          if (!next.done) queue.push(next.value);
          else source = epochBatches(++epoch, 0);
        }
        const start = performance.now();
        const batch = await queue.shift()!;
        waited += performance.now() - start;
        yield batch;
      }
    },
  };
}
