/** What a step carries from one run to the next, in the memory where it computes: parameters, state, rings, sums, and its readings. */
import type { Manifest, TensorInfo } from "../../artifacts/manifest.js";
import { partsOf, viewsOf, type Part } from "../../step.js";
import { bytesOf, scalar, type Tensor, type Tensors } from "../../tensor.js";
import type { Feed, Feeds } from "../index.js";
import type { Memory, Numbers } from "./memory.js";
import type { Value } from "./value.js";

/** The name under which `tensors()` carries the number of applied steps (int64 []). */
export const stepName = "step";

/** State is read from one place and written to another; each applied update exchanges the two, for all at once. */
export type Side = 0 | 1;

/** A value that goes in under one name and comes out under another, elsewhere; which places depends on the side and the batch of the update. */
export interface Passage {
  readonly name: string;
  readonly output?: { readonly name: string; at(side: Side, batch: number): Value };
  input(side: Side, batch: number): Value;
  /** Before the first batch of an update. */
  begin?(): void;
  release(): void;
}

/** A passage whose value lives on from update to update. */
interface Slot extends Passage {
  readonly info: TensorInfo & { readonly parts?: readonly Part[] };
  kept(side: Side): Value;
  /** After an update, before the sides are exchanged. */
  finish?(side: Side, applied: boolean, step: number): void;
}

/** A parameter that is not trained. */
function fixed(memory: Memory, info: TensorInfo): Slot {
  const value = memory.room(info);
  return { info, name: info.name, kept: () => value, input: () => value, release: () => value.release() };
}

/**
 * A tensor that each update replaces. `moves`: how often it moves in an update; beyond once, a batch reads what the batch before it wrote,
 * in two places in turn, and what is kept waits for the last. `always`: it takes what was written where the update is refused, too.
 */
function pingPong(memory: Memory, info: TensorInfo, output: string, moves = 1, always = false): Slot {
  const writable = Math.min(2, moves);
  const places = Array.from({ length: 1 + writable }, () => memory.room(info));
  const last = 1 + ((moves - 1) % writable);
  /** Place 0 is kept; on side 1 it has changed with the place that the last batch writes. */
  const place = (i: number, side: Side): Value => places[side === 1 && (i === 0 || i === last) ? last - i : i]!;
  const kept = (side: Side): Value => place(0, side);
  const at = (side: Side, batch: number): Value => place(1 + (batch % writable), side);
  return {
    info,
    name: info.name,
    kept,
    input: (side, batch) => (moves === 1 || batch === 0 ? kept(side) : at(side, batch - 1)),
    output: { name: output, at },
    finish(side, applied) {
      if (always && !applied) memory.copy(at(side, moves - 1), kept(side));
    },
    release: () => places.forEach((v) => v.release()),
  };
}

/** The row of a queue of `length` rows at which those of a step enter, `count` a step. */
export const ringRow = (step: number, count: number, length: number): number => (step * count) % length;

/** A queue in one place, and the rows that each batch of an update makes for it: all enter together, when the update is applied. */
function ring(memory: Memory, info: TensorInfo, output: string, count: number, batches: number): Slot {
  const [length, ...row] = info.shape as [number, ...number[]];
  const queue = memory.room(info);
  const rows = Array.from({ length: batches }, () => memory.room({ dtype: info.dtype, shape: [count, ...row] }));
  return {
    info,
    name: info.name,
    kept: () => queue,
    input: () => queue,
    output: { name: output, at: (_, batch) => rows[batch]! },
    finish(_, applied, step) {
      if (applied) rows.forEach((some, b) => memory.copy(some, queue, ringRow(step * batches + b, count, length)));
    },
    release: () => [queue, ...rows].forEach((v) => v.release()),
  };
}

/** A sum over the batches of an update, in two places in turn. */
function sum(memory: Memory, info: TensorInfo, output: string): Passage {
  const places = [memory.room(info), memory.room(info)] as const;
  return {
    name: info.name,
    input: (_, batch) => places[batch % 2 === 0 ? 1 : 0],
    output: { name: output, at: (_, batch) => places[batch % 2 === 0 ? 0 : 1] },
    begin: () => memory.clear(places[1]),
    release: () => places.forEach((v) => v.release()),
  };
}

/** Everything that a step carries, over the batches of an update. */
export class StateSet {
  /** In the manifest's order: parameters where they are carried, state, sums. */
  readonly passages: readonly Passage[];
  private readonly slots: readonly Slot[];
  private readonly batches: number;
  side: Side = 0;
  /** Batches of the update in progress so far. */
  batch = 0;
  private step = 0;

  constructor(
    private readonly memory: Memory,
    manifest: Manifest,
    initial: Tensors,
    { parameters }: { parameters: boolean },
  ) {
    this.batches = manifest.accumulation?.batches ?? 1;
    for (const { name, shape } of [...(parameters ? manifest.parameters : []), ...manifest.state.flatMap(partsOf)])
      needed(initial, name, shape);
    const learned = manifest.parameters.map((p) =>
      p.trainable ? pingPong(memory, p, `${p.name}.next`) : fixed(memory, p),
    );
    const state = manifest.state.map((s) =>
      s.at === "ring"
        ? ring(memory, s, s.output, s.rows!, this.batches)
        : pingPong(memory, s, s.output, s.every === "batch" ? this.batches : 1, s.every === "attempt"),
    );
    const sums = manifest.accumulation?.sums ?? [];
    this.slots = parameters ? [...learned, ...state] : state;
    this.passages = [...this.slots, ...sums.map((s) => sum(memory, s, s.output))];
    this.load(initial);
  }

  /** Where this batch reads from and writes to: so many different turns there are. */
  get turn(): number {
    return 2 * this.batch + this.side;
  }
  inputs = (): Value[] => this.passages.map((p) => p.input(this.side, this.batch));
  outputs = (): Value[] => this.passages.flatMap((p) => p.output?.at(this.side, this.batch) ?? []);

  /** Before a batch runs. */
  begin(): void {
    if (this.batch === 0) for (const p of this.passages) p.begin?.();
  }

  /** Counts a batch that has run; true where it was the last of its update. */
  complete(): boolean {
    this.batch = (this.batch + 1) % this.batches;
    return this.batch === 0;
  }

  /** After an update: where it is applied, what its last batch wrote is kept, and new rows enter the rings at (step · rows) mod K. */
  advance(applied: boolean): void {
    for (const s of this.slots) s.finish?.(this.side, applied, this.step);
    if (!applied) return;
    this.side = this.side === 0 ? 1 : 0;
    this.step++;
  }

  tensors(): Tensors {
    const all = this.slots.map((s) => viewsOf(s.info, this.memory.read(s.kept(this.side))));
    return { ...(Object.assign({}, ...all) as Tensors), [stepName]: scalar(this.step, "int64") };
  }

  /** Takes the names it knows out of `tensors`; returns the others. An update in progress begins anew. */
  load(tensors: Tensors): Tensors {
    const rest = { ...tensors };
    this.batch = 0;
    for (const { info, kept } of this.slots) {
      const given = partsOf(info).filter(({ name }) => name in rest);
      if (given.length === 0) continue;
      const place = kept(this.side);
      const whole = info.parts
        ? withParts(info, this.memory.read(place), given, rest)
        : needed(rest, info.name, info.shape);
      this.memory.write(place, whole);
      for (const { name } of given) delete rest[name];
    }
    if (rest[stepName]) this.step = Number(rest[stepName].data[0]);
    delete rest[stepName];
    return rest;
  }

  release(): void {
    for (const p of this.passages) p.release();
  }
}

/** A state of parts, those that are given overwritten. */
function withParts(info: Slot["info"], state: Tensor, given: readonly Part[], tensors: Tensors): Tensor {
  const views = viewsOf(info, state);
  for (const { name, shape } of given) bytesOf(views[name]!).set(bytesOf(needed(tensors, name, shape)));
  return state;
}

/** A tensor that must be there with this shape. */
export function needed(tensors: Tensors, name: string, shape: readonly number[]): Tensor {
  const t = tensors[name];
  if (!t) throw new Error(`"${name}" is missing: the step needs it with shape [${shape}].`);
  if (t.shape.join() !== shape.join())
    throw new Error(
      `"${name}" is [${t.shape}] in what is loaded, [${shape}] in the graph. Was it trained with other options?`,
    );
  return t;
}

/** Inputs of one step, checked against the manifest and in its order. */
export const stepInputs = (manifest: Manifest, inputs: Feeds): Feed[] =>
  manifest.inputs.map((i) => {
    const t = inputs[i.name];
    if (!t)
      throw new Error(
        `The step needs input "${i.name}" ${i.dtype}[${i.shape}]; it was fed ${Object.keys(inputs).join(", ") || "nothing"}.`,
      );
    if (t.dtype !== i.dtype || t.shape.join() !== i.shape.join())
      throw new Error(`Input "${i.name}" is ${i.dtype}[${i.shape}] in the step but ${t.dtype}[${t.shape}] was fed.`);
    return t;
  });

/** Scalars of one step, likewise. */
export const stepScalars = (manifest: Manifest, scalars: Record<string, number>): number[] =>
  manifest.scalars.map((name) => {
    const v = scalars[name];
    if (v !== undefined) return v;
    throw new Error(`The step needs scalar "${name}"; it was given ${Object.keys(scalars).join(", ") || "none"}.`);
  });

/** Loss, metrics and the applied flag: written by each run, and read together, as the flag has to be known. */
export class Readings {
  private readonly numbers: Numbers;
  private latest: number[];
  readonly names: readonly string[];

  constructor(memory: Memory, { loss, metrics, applied }: Manifest) {
    this.names = [loss, ...metrics, applied];
    this.numbers = memory.numbers(this.names.map((name) => (name === applied ? "bool" : "float32")));
    this.latest = this.names.map(() => 0);
  }
  get values(): readonly Value[] {
    return this.numbers.values;
  }
  /** Reads what the last run wrote; whether its update is to be applied. */
  take(): boolean {
    this.latest = this.numbers.read();
    return this.latest.at(-1) === 1;
  }
  metrics = (): Record<string, number> =>
    Object.fromEntries(this.names.slice(0, -1).map((name, i) => [name, this.latest[i]!]));
  release(): void {
    this.numbers.release();
  }
}
