/** Runs augmentation graphs over batches of images: crops are copied out (mirrored where flipped), everything else happens in the graphs. */
import type { Engine, Resident, Residents, Session } from "../engines/index.js";
import { grouped } from "../grouped.js";
import { sizeOf, type Tensors } from "../tensor.js";
import type { Channels, ViewSpec } from "../views.js";
import { channelsOf, type Image } from "./dataset.js";
import { chunked, inHost, onDevice, stackValues } from "./stacks.js";

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
  ): Promise<Residents>;
  /** One view of each image: [B,C,S,S] */
  each(images: readonly Image[], view: ViewSpec, draw: (i: number) => Draw): Promise<Resident>;
  release(): void;
}

/** A session by what it is for: made when it is first asked for. */
export type Sessions = (key: string, model: () => Uint8Array) => Promise<Session>;

/**
 * An augmenter on an engine; stacks of one batch run side by side, each on one thread. Which views share a stack changes no result. Views
 * stay where the engine computes.
 */
export function augmenter<Draw extends Cut>(
  engine: Engine,
  augmentation: (view: ViewSpec) => Augmentation<Draw>,
): Augmenter<Draw> {
  const opened = new Map<string, Promise<Session>>();
  const sessions: Sessions = (key, model) => {
    const known = opened.get(key) ?? engine.session(model(), { threads: 1 });
    opened.set(key, known);
    return known;
  };
  const gathered = engine.apart ? onDevice<Draw>(sessions) : inHost<Draw>(sessions);

  /** The work of one kind of views [...counts,C,S,S], image by image within each copy. */
  function planned(images: readonly Image[], view: ViewSpec, counts: readonly number[], draw: (at: number) => Draw) {
    const a = augmentation(view);
    const other = images.find((image) => channelsOf(image) !== a.channels);
    if (other)
      throw new Error(`View ${view.name} is of ${a.channels} channels, but an image has ${channelsOf(other)}.`);
    const all = gathered({ ...a, name: JSON.stringify({ ...view, name: undefined }) }, counts);
    const jobs = Array.from({ length: sizeOf(counts) }, (_, at) => ({
      image: images[at % images.length]!,
      draw: draw(at),
      at,
    }));
    const most = Math.max(1, Math.floor(stackValues(engine) / (a.channels * a.size * a.size)));
    const stacks = [...grouped(jobs, (j) => a.key(j.draw)).values()].flatMap((group) => chunked(group, most));
    return { stacks: stacks.map((some) => () => all.stack(some)), whole: all.whole };
  }
  async function made(plans: readonly ReturnType<typeof planned>[]): Promise<Resident[]> {
    await inFlight(
      plans.flatMap((p) => p.stacks),
      2 * engine.threads,
    );
    return Promise.all(plans.map((p) => p.whole()));
  }

  return {
    async batch(images, views, draw) {
      const n = images.length;
      const plans = views.map((view) =>
        planned(images, view, [view.count, n], (at) => draw(view, Math.floor(at / n), at % n)),
      );
      const all = await made(plans);
      return Object.fromEntries(views.map(({ name }, i) => [name, all[i]!]));
    },
    each: async (images, view, draw) => (await made([planned(images, view, [images.length], draw)]))[0]!,
    release() {
      for (const s of opened.values()) void s.then((v) => v.release());
    },
  };
}

/** Runs the jobs with so many started at once. */
async function inFlight(jobs: readonly (() => Promise<void>)[], width: number): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < jobs.length) await jobs[next++]!();
  };
  await Promise.all(Array.from({ length: width }, worker));
}
