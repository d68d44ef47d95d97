/** What both training sessions share: tensors by role, state that changes sides each update, rings, sums, and the count of applied steps. */
import type { Artifacts, Manifest, TensorInfo } from "../../artifacts/manifest.js";
import { viewsOf } from "../../step.js";
import { bytesOf, fromBytes, scalar, zeros, type Tensor, type Tensors } from "../../tensor.js";
import type { Api } from "./api.js";
import { ortTensor, type OrtTensor } from "./value.js";

/** The name under which `tensors()` carries the number of applied steps (int64 []). */
export const stepName = "step";

export const copyOf = (t: Tensor): Tensor => fromBytes(t.dtype, t.shape, bytesOf(t));
export const overwrite = (target: Tensor, source: Tensor): void => bytesOf(target).set(bytesOf(source));

/** A tensor that each update replaces: read from `kept`, written to a buffer of its own, exchanged when the update is applied. */
export class PingPong {
  kept: OrtTensor;
  private readonly written: OrtTensor[];

  /** `moves`: how often it moves in an update. Beyond once, a batch reads what the batch before it wrote, and `kept` waits for the last. */
  constructor(
    api: Api,
    readonly name: string,
    start: Tensor,
    private readonly moves = 1,
    /** It moves where the update is refused, too. */
    readonly always = false,
  ) {
    this.kept = ortTensor(api, copyOf(start));
    this.written = Array.from({ length: Math.min(2, moves) }, () => ortTensor(api, zeros(start.dtype, start.shape)));
  }

  input = (batch: number): OrtTensor => (this.moves === 1 || batch === 0 ? this.kept : this.output(batch - 1));
  output = (batch: number): OrtTensor => this.written[batch % this.written.length]!;
  advance(): void {
    const last = (this.moves - 1) % this.written.length;
    [this.kept, this.written[last]] = [this.written[last]!, this.kept];
  }
  release(): void {
    for (const t of [this.kept, ...this.written]) t.release();
  }
}

/** A queue in one buffer, and the rows that each batch of an update makes for it: all enter together, when the update is applied. */
class Ring {
  readonly always = false;
  readonly kept: OrtTensor;
  private readonly rows: OrtTensor[];

  constructor(
    api: Api,
    readonly name: string,
    start: Tensor,
    rows: number,
    batches: number,
  ) {
    this.kept = ortTensor(api, copyOf(start));
    const shape = [rows, ...start.shape.slice(1)];
    this.rows = Array.from({ length: batches }, () => ortTensor(api, zeros(start.dtype, shape)));
  }

  input = (): OrtTensor => this.kept;
  output = (batch: number): OrtTensor => this.rows[batch]!;
  advance(step: number): void {
    this.rows.forEach((rows, batch) => enqueue({ queue: this.kept, rows }, step * this.rows.length + batch));
  }
  release(): void {
    for (const t of [this.kept, ...this.rows]) t.release();
  }
}

/** A sum over the batches of an update: two buffers in turn, zeros before the first. */
class Sum {
  private readonly buffers: [OrtTensor, OrtTensor];

  constructor(api: Api, { dtype, shape }: TensorInfo) {
    this.buffers = [ortTensor(api, zeros(dtype, shape)), ortTensor(api, zeros(dtype, shape))];
  }

  input(batch: number): OrtTensor {
    const before = this.output(batch + 1);
    if (batch === 0) before.tensor.data.fill(0 as never);
    return before;
  }
  output = (batch: number): OrtTensor => this.buffers[batch % 2]!;
  release(): void {
    for (const t of this.buffers) t.release();
  }
}

/** State and sums of a step in host memory, in the manifest's order, over the batches of an update. */
export class StateSet {
  private readonly slots: (PingPong | Ring)[];
  private readonly sums: Sum[];
  private readonly batches: number;
  /** Batches of the update in progress so far. */
  private batch = 0;
  step = 0;

  constructor(
    api: Api,
    private readonly manifest: Manifest,
    initial: Tensors,
  ) {
    this.batches = manifest.accumulation?.batches ?? 1;
    this.slots = manifest.state.map((s) => {
      const start = zeros(s.dtype, s.shape);
      for (const [name, view] of Object.entries(viewsOf(s, start))) overwrite(view, needed(initial, name, view.shape));
      if (s.at === "ring") return new Ring(api, s.name, start, s.rows!, this.batches);
      return new PingPong(api, s.name, start, s.every === "batch" ? this.batches : 1, s.every === "attempt");
    });
    this.sums = (manifest.accumulation?.sums ?? []).map((s) => new Sum(api, s));
    if (initial[stepName]) this.step = Number(initial[stepName].data[0]);
  }

  inputs = (): OrtTensor[] => [...this.slots, ...this.sums].map((s) => s.input(this.batch));
  outputs = (): OrtTensor[] => [...this.slots, ...this.sums].map((s) => s.output(this.batch));

  /** Counts a batch that has run; true where it was the last of its update. */
  complete(): boolean {
    this.batch = (this.batch + 1) % this.batches;
    return this.batch === 0;
  }

  /** After an update: where it is applied, what its last batch wrote is kept, and new rows enter the rings at (step · rows) mod K. */
  advance(applied: boolean): void {
    for (const s of this.slots) if (applied || s.always) s.advance(this.step);
    if (applied) this.step++;
  }

  tensors(): Tensors {
    const all = Object.entries(this.views()).map(([name, view]) => [name, copyOf(view)]);
    return { ...(Object.fromEntries(all) as Tensors), [stepName]: scalar(this.step, "int64") };
  }

  /** Takes the names it knows out of `tensors`; returns the others. An update in progress begins anew. */
  load(tensors: Tensors): Tensors {
    const rest = { ...tensors };
    this.batch = 0;
    for (const [name, view] of Object.entries(this.views())) {
      if (!(name in rest)) continue;
      overwrite(view, needed(rest, name, view.shape));
      delete rest[name];
    }
    if (rest[stepName]) this.step = Number(rest[stepName].data[0]);
    delete rest[stepName];
    return rest;
  }

  /** State as files have it, each tensor a view into what is kept. */
  private views = (): Tensors =>
    Object.assign({}, ...this.slots.map((s, i) => viewsOf(this.manifest.state[i]!, s.kept.tensor))) as Tensors;

  release(): void {
    for (const s of [...this.slots, ...this.sums]) s.release();
  }
}

/** Writes the rows at (step · rows) mod K. */
export function enqueue({ queue, rows }: { queue: { tensor: Tensor }; rows: { tensor: Tensor } }, step: number): void {
  const [length, count] = [queue.tensor.shape[0]!, rows.tensor.shape[0]!];
  const width = queue.tensor.data.length / length;
  queue.tensor.data.set(rows.tensor.data as never, ((step * count) % length) * width);
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

/** Inputs and scalars of one step, checked against the manifest and in its order. */
export function stepInputs(manifest: Manifest, inputs: Tensors, scalars: Record<string, number>): Tensor[] {
  const tensors = manifest.inputs.map((i) => {
    const t = inputs[i.name];
    if (!t)
      throw new Error(
        `The step needs input "${i.name}" ${i.dtype}[${i.shape}]; it was fed ${Object.keys(inputs).join(", ") || "nothing"}.`,
      );
    if (t.dtype !== i.dtype || t.shape.join() !== i.shape.join())
      throw new Error(`Input "${i.name}" is ${i.dtype}[${i.shape}] in the step but ${t.dtype}[${t.shape}] was fed.`);
    return t;
  });
  const numbers = manifest.scalars.map((name) => {
    const v = scalars[name];
    if (v === undefined)
      throw new Error(`The step needs scalar "${name}"; it was given ${Object.keys(scalars).join(", ") || "none"}.`);
    return scalar(v);
  });
  return [...tensors, ...numbers];
}

/** loss, metrics and the applied flag, written in place by each step. */
export class Readings {
  readonly values: OrtTensor[];
  private readonly names: string[];

  constructor(api: Api, { loss, metrics }: Manifest) {
    this.names = [loss, ...metrics];
    this.values = [...this.names.map(() => zeros("float32", [])), zeros("bool", [])].map((t) => ortTensor(api, t));
  }
  metrics = (): Record<string, number> =>
    Object.fromEntries(this.names.map((name, i) => [name, Number(this.values[i]!.tensor.data[0])]));
  applied = (): boolean => this.values.at(-1)!.tensor.data[0] === 1;
  release(): void {
    for (const v of this.values) v.release();
  }
}

export type { Artifacts };
