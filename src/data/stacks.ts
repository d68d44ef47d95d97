/** How stacks of views are made and come to their places: on the CPU in memory that is used again, on a device without leaving it. */
import { residing, type Engine, type Resident, type Residents } from "../engines/index.js";
import { input } from "../onnx/graph.js";
import { toModel } from "../onnx/model.js";
import { Concat, Gather } from "../ops/index.js";
import { sizeOf, tensor, zeros, type Tensor, type Tensors } from "../tensor.js";
import type { Augmentation, Cut, Sessions } from "./augmenter.js";
import { channelsOf, type Image } from "./dataset.js";

/** One view to be made: of this image, with this draw, at this place among all of its kind. */
export interface Job<Draw> {
  image: Image;
  draw: Draw;
  at: number;
}
/** An augmentation with what tells its sessions from those of others. */
type Named<Draw extends Cut> = Augmentation<Draw> & { name: string };

/** All views of one kind, by stacks of equal key, to a tensor [...counts,C,S,S]. */
interface Gathered<Draw> {
  stack(jobs: readonly Job<Draw>[]): Promise<void>;
  whole(): Promise<Resident>;
}
type Gathering<Draw extends Cut> = (a: Named<Draw>, counts: readonly number[]) => Gathered<Draw>;

/**
 * Views staged together are no more than about this many values: enough that the calls do not count, few enough for the caches. A device
 * has no such caches, and its calls cost more.
 */
export const stackValues = ({ apart }: Engine): number => (apart ? 8 : 1) * cachedValues;
const cachedValues = 160_000;
/** Crops resized in one call. */
const cropsAtOnce = 8;

/** The crops of some jobs by the names of the crops' inputs. */
const cropsOf = (jobs: readonly Job<Cut>[]): Tensors =>
  Object.fromEntries(jobs.map(({ image, draw }, k) => [`image${k}`, cropped(image, draw)]));

export const chunked = <T>(items: readonly T[], size: number): (readonly T[])[] =>
  Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));

export function inHost<Draw extends Cut>(sessions: Sessions): Gathering<Draw> {
  /** Memory of earlier stacks, to be written again: fresh pages cost more than the copying. */
  const shelf: Tensor<"float32">["data"][] = [];
  async function lent(shape: readonly number[], use: (t: Tensor) => Promise<void>): Promise<void> {
    const n = sizeOf(shape);
    const fit = shelf.findIndex((b) => b.length >= n);
    const memory = fit < 0 ? new Float32Array(Math.max(n, cachedValues)) : shelf.splice(fit, 1)[0]!;
    await use({ dtype: "float32", shape, data: memory.subarray(0, n) });
    shelf.push(memory);
  }

  return (a, counts) => {
    const view = [a.channels, a.size, a.size];
    const all = zeros("float32", [...counts, ...view]);
    const flat = { ...all, shape: [sizeOf(counts), ...view] };
    return {
      async stack(jobs) {
        const draws = jobs.map((j) => j.draw);
        const stages = await sessions(`${a.name} ${a.key(draws[0]!)}`, () => a.stages(draws[0]!));
        const shape = [jobs.length, ...view];
        await lent(shape, async (views) => {
          for (const [i, some] of chunked(jobs, cropsAtOnce).entries()) {
            const crops = await sessions(`${a.name} ${some.length}`, () => a.crops(some.length));
            await crops.run(cropsOf(some), ["views"], { views: rows(views, i * cropsAtOnce, some.length) });
          }
          const run = (result: Tensor) => stages.run({ ...a.feeds(draws), views }, ["view"], { view: result });
          const place = ({ at }: Job<Draw>): Tensor => rows(flat, at, 1);
          if (jobs.length === 1) return void (await run(place(jobs[0]!)));
          await lent(shape, async (result) => {
            await run(result);
            jobs.forEach((j, i) => place(j).data.set(rows(result, i, 1).data as never));
          });
        });
      },
      whole: () => Promise.resolve(residing(all)),
    };
  };
}

/** n rows of a tensor from the first on, over the same memory. */
function rows(t: Tensor, first: number, n: number): Tensor {
  const shape = [n, ...t.shape.slice(1)];
  const size = sizeOf(t.shape.slice(1));
  return { dtype: t.dtype, shape, data: t.data.subarray(first * size, (first + n) * size) as Tensor["data"] };
}

export function onDevice<Draw extends Cut>(sessions: Sessions): Gathering<Draw> {
  /** Parts one after the other, then those of their rows that `order` names; the parts are released. */
  async function joined(parts: readonly Resident[], order: Tensor): Promise<Resident> {
    const arity = 2 ** Math.ceil(Math.log2(parts.length)); // a session each for few numbers of parts: the first stands in for the rest
    const [, ...row] = parts[0]!.shape as [number, ...number[]];
    const key = `join ${arity} ${order.shape.length} ${row}`;
    const session = await sessions(key, () => joinModel(arity, order.shape.length, row));
    const fed = Array.from({ length: arity }, (_, i) => [`part${i}`, parts[i] ?? parts[0]!]);
    try {
      const { rows } = await session.keep({ ...(Object.fromEntries(fed) as Residents), order });
      return rows!;
    } finally {
      for (const p of parts) p.release();
    }
  }

  return (a, counts) => {
    const parts: { view: Resident; places: number[] }[] = [];
    return {
      async stack(jobs) {
        const draws = jobs.map((j) => j.draw);
        const stages = await sessions(`${a.name} ${a.key(draws[0]!)}`, () => a.stages(draws[0]!));
        const cut: Resident[] = [];
        for (const some of chunked(jobs, cropsAtOnce)) {
          const crops = await sessions(`${a.name} ${some.length}`, () => a.crops(some.length));
          cut.push((await crops.keep(cropsOf(some), ["views"])).views!);
        }
        const inOrder = Array.from(jobs.keys());
        const views = cut.length === 1 ? cut[0]! : await joined(cut, tensor("int64", [jobs.length], inOrder));
        const { view } = await stages.keep({ ...a.feeds(draws), views }, ["view"]);
        views.release();
        parts.push({ view: view!, places: jobs.map((j) => j.at) });
      },
      whole() {
        const order = new Array<number>(sizeOf(counts));
        parts.flatMap((p) => p.places).forEach((place, row) => (order[place] = row));
        return joined(
          parts.map((p) => p.view),
          tensor("int64", counts, order),
        );
      },
    };
  };
}

/** `part0`… [N,…row] and `order`, int64 of a rank → `rows` [...order, …row] */
function joinModel(arity: number, rank: number, row: readonly number[]): Uint8Array {
  const parts = Array.from({ length: arity }, (_, i) => input(`part${i}`, "float32", [`N${i}`, ...row]));
  const order = input(
    "order",
    "int64",
    Array.from({ length: rank }, (_, i) => `M${i}`),
  );
  const rows = Gather(Concat(parts, { axis: 0 }), order);
  return toModel({ name: "join", inputs: [...parts, order], outputs: { rows } });
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
