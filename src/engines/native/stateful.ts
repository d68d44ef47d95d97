/** What both training sessions share: tensors by role, state that changes sides each step, rings, and the count of applied steps. */
import type { Artifacts, Manifest } from "../../artifacts/manifest.js";
import { bytesOf, fromBytes, scalar, zeros, type Tensor, type Tensors } from "../../tensor.js";
import type { Api } from "./api.js";
import { ortTensor, type OrtTensor } from "./value.js";

/** The name under which `tensors()` carries the number of applied steps (int64 []). */
export const stepName = "step";

/** A tensor that alternates between two buffers: read from one, written to the other, then exchanged. */
export interface PingPong {
  readonly name: string;
  current: OrtTensor;
  next: OrtTensor;
}
export const pingPong = (api: Api, name: string, t: Tensor): PingPong => ({
  name,
  current: ortTensor(api, copyOf(t)),
  next: ortTensor(api, zeros(t.dtype, t.shape)),
});
export const exchange = (p: PingPong): void => {
  [p.current, p.next] = [p.next, p.current];
};
export const releasePair = (p: PingPong): void => {
  p.current.release();
  p.next.release();
};

/** A queue in one buffer, and the rows that the last step made for it. */
export interface Ring {
  readonly name: string;
  readonly queue: OrtTensor;
  readonly rows: OrtTensor;
}

export const copyOf = (t: Tensor): Tensor => fromBytes(t.dtype, t.shape, bytesOf(t));
const overwrite = (target: Tensor, source: Tensor): void => bytesOf(target).set(bytesOf(source));

/** State of a step in host memory, in the manifest's order. */
export class StateSet {
  readonly slots: (PingPong | Ring)[];
  step = 0;

  constructor(api: Api, manifest: Manifest, initial: Tensors) {
    this.slots = manifest.state.map((s) => {
      const start = needed(initial, s.name, s.shape);
      if (s.at === "next") return pingPong(api, s.name, start);
      const rows = zeros(s.dtype, [s.rows!, ...s.shape.slice(1)]);
      return { name: s.name, queue: ortTensor(api, copyOf(start)), rows: ortTensor(api, rows) };
    });
    if (initial[stepName]) this.step = Number(initial[stepName].data[0]);
  }

  inputs = (): OrtTensor[] => this.slots.map((s) => ("queue" in s ? s.queue : s.current));
  outputs = (): OrtTensor[] => this.slots.map((s) => ("queue" in s ? s.rows : s.next));

  /** After an applied step: what was written becomes current, new rows enter the rings at (step · rows) mod K. */
  advance(): void {
    for (const s of this.slots)
      if ("queue" in s) enqueue(s, this.step);
      else exchange(s);
    this.step++;
  }

  tensors(): Tensors {
    const all = this.slots.map((s) => [s.name, copyOf(("queue" in s ? s.queue : s.current).tensor)]);
    return { ...(Object.fromEntries(all) as Tensors), [stepName]: scalar(this.step, "int64") };
  }

  /** Takes the names it knows out of `tensors`; returns the others. */
  load(tensors: Tensors): Tensors {
    const rest = { ...tensors };
    for (const s of this.slots) {
      const target = ("queue" in s ? s.queue : s.current).tensor;
      if (!(s.name in rest)) continue;
      overwrite(target, needed(rest, s.name, target.shape));
      delete rest[s.name];
    }
    if (rest[stepName]) this.step = Number(rest[stepName].data[0]);
    delete rest[stepName];
    return rest;
  }

  release(): void {
    for (const s of this.slots)
      if ("queue" in s) {
        s.queue.release();
        s.rows.release();
      } else releasePair(s);
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
