/** Runs augmentation graphs over batches of images: crops are copied out (mirrored where flipped), everything else happens in the graphs. */
import type { Engine, Session } from "../engines/index.js";
import { sizeOf, zeros, type Tensor, type Tensors } from "../tensor.js";
import type { Channels, ViewSpec } from "../views.js";
import { channelsOf, type Image } from "./dataset.js";

/** Where a view is cut from its image. */
export interface Cut {
  crop: { top: number; left: number; height: number; width: number };
  flip: boolean;
}

/** How views of one kind are made; graphs/augment.ts provides it. */
export interface Augmentation<Draw extends Cut> {
  size: number;
  channels: Channels;
  /** `image0`… uint8 [1,C,h,w] → `views` [n,C,S,S] */
  crops(n: number): Uint8Array;
  /** Equal keys, equal stages. */
  key(draw: Draw): string;
  /** `views` and the feeds → `view` [n,C,S,S] */
  stages(draw: Draw): Uint8Array;
  feeds(draws: readonly Draw[]): Tensors;
}

export interface Augmenter<Draw> {
  /** For each ViewSpec a tensor [count,B,C,S,S]; `draw(view, copy, i)` says what image i's copy of the view becomes. */
  batch(
    images: readonly Image[],
    views: readonly ViewSpec[],
    draw: (view: ViewSpec, copy: number, i: number) => Draw,
  ): Promise<Tensors>;
  release(): void;
}

/** One view to be made: of this image, with this draw, into this place of the result. */
interface Job<Draw> {
  image: Image;
  draw: Draw;
  place: Tensor;
}

/** Views staged together are no more than about this many values: enough that the calls do not count, few enough for the caches. */
const stackValues = 160_000;
/** Crops resized in one call. */
const cropsAtOnce = 8;

/** An augmenter on an engine; stacks of one batch run side by side, each on one thread. Which views share a stack changes no result. */
export function augmenter<Draw extends Cut>(
  engine: Engine,
  augmentation: (view: ViewSpec) => Augmentation<Draw>,
): Augmenter<Draw> {
  const sessions = new Map<string, Promise<Session>>();
  /** Memory of earlier stacks, to be written again: fresh pages cost more than the copying. */
  const shelf: Tensor<"float32">["data"][] = [];
  async function lent(shape: readonly number[], use: (t: Tensor) => Promise<void>): Promise<void> {
    const n = sizeOf(shape);
    const fit = shelf.findIndex((b) => b.length >= n);
    const memory = fit < 0 ? new Float32Array(Math.max(n, stackValues)) : shelf.splice(fit, 1)[0]!;
    await use({ dtype: "float32", shape, data: memory.subarray(0, n) });
    shelf.push(memory);
  }
  const session = (key: string, model: () => Uint8Array): Promise<Session> => {
    const known = sessions.get(key) ?? engine.session(model(), { threads: 1 });
    sessions.set(key, known);
    return known;
  };

  /** Crops into `views` [n,C,S,S]. */
  async function crop(name: string, a: Augmentation<Draw>, jobs: readonly Job<Draw>[], views: Tensor): Promise<void> {
    for (let i = 0; i < jobs.length; i += cropsAtOnce) {
      const some = jobs.slice(i, i + cropsAtOnce);
      const crops = await session(`${name} ${some.length}`, () => a.crops(some.length));
      const images = Object.fromEntries(some.map(({ image, draw }, k) => [`image${k}`, cropped(image, draw)]));
      await crops.run(images, ["views"], { views: rows(views, i, some.length) });
    }
  }

  /** Views of one key, each to its place. */
  async function make(view: ViewSpec, a: Augmentation<Draw>, jobs: readonly Job<Draw>[]): Promise<void> {
    const name = JSON.stringify({ ...view, name: undefined });
    const draws = jobs.map((j) => j.draw);
    const stages = await session(`${name} ${a.key(draws[0]!)}`, () => a.stages(draws[0]!));
    const shape = [jobs.length, a.channels, a.size, a.size];
    await lent(shape, async (views) => {
      await crop(name, a, jobs, views);
      const run = (result: Tensor) => stages.run({ ...a.feeds(draws), views }, ["view"], { view: result });
      if (jobs.length === 1) return void (await run({ ...jobs[0]!.place, shape }));
      await lent(shape, async (result) => {
        await run(result);
        jobs.forEach(({ place }, i) => place.data.set(rows(result, i, 1).data as never));
      });
    });
  }

  return {
    async batch(images, views, draw) {
      const out: Record<string, Tensor> = {};
      const stacks: (() => Promise<void>)[] = [];
      for (const view of views) {
        const a = augmentation(view);
        const other = images.find((image) => channelsOf(image) !== a.channels);
        if (other)
          throw new Error(`View ${view.name} is of ${a.channels} channels, but an image has ${channelsOf(other)}.`);
        const all = zeros("float32", [view.count, images.length, a.channels, a.size, a.size]);
        out[view.name] = all;
        const flat = { ...all, shape: [view.count * images.length, a.channels, a.size, a.size] };
        const jobs = Array.from({ length: view.count * images.length }, (_, n): Job<Draw> => {
          const i = n % images.length;
          return { image: images[i]!, draw: draw(view, Math.floor(n / images.length), i), place: rows(flat, n, 1) };
        });
        const most = Math.max(1, Math.floor(stackValues / (a.channels * a.size * a.size)));
        for (const group of grouped(jobs, (j) => a.key(j.draw)))
          for (let i = 0; i < group.length; i += most) stacks.push(() => make(view, a, group.slice(i, i + most)));
      }
      await inFlight(stacks, 2 * engine.threads);
      return out;
    },
    release() {
      for (const s of sessions.values()) void s.then((v) => v.release());
    },
  };
}

function grouped<T>(items: readonly T[], key: (item: T) => string): T[][] {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const k = key(item);
    const known = groups.get(k);
    if (known) known.push(item);
    else groups.set(k, [item]);
  }
  return [...groups.values()];
}

/** n rows of a tensor from the first on, over the same memory. */
function rows(t: Tensor, first: number, n: number): Tensor {
  const shape = [n, ...t.shape.slice(1)];
  const size = sizeOf(t.shape.slice(1));
  return { dtype: t.dtype, shape, data: t.data.subarray(first * size, (first + n) * size) as Tensor["data"] };
}

/** Runs the jobs with so many started at once. */
async function inFlight(jobs: readonly (() => Promise<void>)[], width: number): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < jobs.length) await jobs[next++]!();
  };
  await Promise.all(Array.from({ length: width }, worker));
}

/** A box of planes as uint8 [1,C,h,w], mirrored where flipped. */
function cropped(image: Image, { crop, flip }: Cut): Tensor {
  const { width, height, data } = image;
  const channels = channelsOf(image);
  const { top, left, height: h, width: w } = crop;
  const out = zeros("uint8", [1, channels, h, w]);
  const pixels = out.data;
  const step = flip ? -1 : 1;
  for (let c = 0, to = 0; c < channels; c++)
    for (let y = top; y < top + h; y++) {
      let from = (c * height + y) * width + (flip ? left + w - 1 : left);
      for (const end = to + w; to < end; to++, from += step) pixels[to] = data[from]!;
    }
  return out;
}
