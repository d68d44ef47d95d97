/** Runs augmentation graphs over batches of images: crops are copied out, everything else happens in the graph. */
import type { Engine, Session } from "../engines/index.js";
import { zeros, type Tensor, type Tensors } from "../tensor.js";
import type { ViewSpec } from "../views.js";
import type { Image } from "./dataset.js";

/** What is done to one image for one view; graphs/augment.ts provides it. */
export interface Plan {
  /** Equal keys, equal graphs. */
  key: string;
  model(): Uint8Array;
  crop: { top: number; left: number; height: number; width: number };
  /** All inputs of the graph but `image` uint8 [3,h,w]. */
  feeds(): Tensors;
}

export interface Augmenter {
  /** One view of one image into `out` [3,S,S]. */
  one(image: Image, plan: Plan, out: Tensor): Promise<void>;
  /** For each ViewSpec a tensor [count,B,3,S,S]; `plan(view, copy, i)` says what image i's copy of the view becomes. */
  batch(
    images: readonly Image[],
    views: readonly ViewSpec[],
    plan: (view: ViewSpec, copy: number, i: number) => Plan,
  ): Promise<Tensors>;
  release(): void;
}

/** An augmenter on an engine; views of one batch run side by side, each on one thread. */
export function augmenter(engine: Engine): Augmenter {
  const sessions = new Map<string, Promise<Session>>();
  const sessionOf = (plan: Plan): Promise<Session> => {
    const known = sessions.get(plan.key) ?? engine.session(plan.model(), { threads: 1 });
    sessions.set(plan.key, known);
    return known;
  };
  const one = async (image: Image, plan: Plan, out: Tensor): Promise<void> => {
    const session = await sessionOf(plan);
    await session.run({ ...plan.feeds(), image: cropped(image, plan.crop) }, ["view"], { view: out });
  };
  return {
    one,
    async batch(images, views, plan) {
      const out = Object.fromEntries(
        views.map((v) => [v.name, zeros("float32", [v.count, images.length, 3, v.size, v.size])]),
      );
      const jobs: (() => Promise<void>)[] = [];
      for (const view of views)
        for (let copy = 0; copy < view.count; copy++)
          images.forEach((image, i) => {
            const place = part(out[view.name]!, copy * images.length + i, [3, view.size, view.size]);
            jobs.push(() => one(image, plan(view, copy, i), place));
          });
      await inFlight(jobs, 2 * engine.threads);
      return out;
    },
    release() {
      for (const s of sessions.values()) void s.then((v) => v.release());
    },
  };
}

/** The n-th [shape] of a larger tensor, over the same memory. */
function part(t: Tensor, n: number, shape: number[]): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  return { dtype: t.dtype, shape, data: t.data.subarray(n * size, (n + 1) * size) as Tensor["data"] };
}

/** Runs the jobs with so many started at once. */
async function inFlight(jobs: readonly (() => Promise<void>)[], width: number): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < jobs.length) await jobs[next++]!();
  };
  await Promise.all(Array.from({ length: width }, worker));
}

/** A box of planes as uint8 [3,h,w]. */
export function cropped({ width, height, data }: Image, { top, left, height: h, width: w }: Plan["crop"]): Tensor {
  if (h === height && w === width) return { dtype: "uint8", shape: [3, h, w], data: data as Tensor<"uint8">["data"] };
  const out = zeros("uint8", [3, h, w]);
  for (let c = 0, to = 0; c < 3; c++)
    for (let y = top; y < top + h; y++, to += w) {
      const from = (c * height + y) * width + left;
      out.data.set(data.subarray(from, from + w), to);
    }
  return out;
}
