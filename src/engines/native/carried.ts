/** A training session over a packaged step: what it carries, and the order of things in a step, whatever the packaging. */
import type { Artifacts, Manifest } from "../../artifacts/manifest.js";
import type { Tensor } from "../../tensor.js";
import type { TrainingSession } from "../index.js";
import type { Memory, Numbers } from "./memory.js";
import { needed, Readings, StateSet, stepInputs, stepScalars } from "./stateful.js";
import type { Value } from "./value.js";

/** Scalars, state and readings of a step, in the memory where it computes. */
export class Carried {
  readonly manifest: Manifest;
  readonly state: StateSet;
  readonly scalars: Numbers;
  readonly readings: Readings;

  constructor(
    readonly memory: Memory,
    { manifest, initial }: Artifacts,
    /** Whether the state holds the parameters too. */
    which: { parameters: boolean },
  ) {
    this.manifest = manifest;
    this.state = new StateSet(memory, manifest, initial, which);
    this.scalars = memory.numbers(manifest.scalars.map(() => "float32"));
    this.readings = new Readings(memory, manifest);
  }
  release(): void {
    for (const part of [this.state, this.scalars, this.readings]) part.release();
  }
}

/** What a packaging does in a step. */
export interface Packaging {
  /** One batch: out of its inputs and what is carried, into what is carried. */
  run(inputs: readonly Value[]): Promise<void>;
  /** Parameters that it holds itself. */
  parameters?: {
    /** Takes the update of the last batch over. */
    update(): Promise<void>;
    read(name: string): Tensor;
    write(name: string, tensor: Tensor): void;
  };
  /** After every batch, one that failed too. */
  settle?(): void;
  release(): void;
}

export function trainingSession(carried: Carried, packaging: Packaging): TrainingSession {
  const { memory, manifest, state, scalars, readings } = carried;
  const own = packaging.parameters;
  let open = true;
  let busy = false;
  const close = (): void => {
    packaging.release();
    carried.release();
  };

  return {
    async step(inputs, numbers) {
      if (!open || busy) throw new Error(open ? "A step is in flight already." : "This training session is released.");
      const feeds = stepInputs(manifest, inputs);
      const scheduled = stepScalars(manifest, numbers);
      let given: Value[] = [];
      busy = true;
      try {
        given = await memory.given(feeds);
        scalars.write(scheduled);
        state.begin();
        await packaging.run(given);
        if (!state.complete()) return {};
        const applied = readings.take();
        if (applied) await own?.update();
        state.advance(applied);
        return { applied };
      } finally {
        for (const v of given) v.release();
        packaging.settle?.();
        busy = false;
        if (!open) close();
      }
    },
    metrics: readings.metrics,
    tensors: () => ({
      ...Object.fromEntries(own ? manifest.parameters.map(({ name }) => [name, own.read(name)]) : []),
      ...state.tensors(),
    }),
    load(tensors) {
      const rest = state.load(tensors);
      for (const { name, shape } of own ? manifest.parameters : []) {
        if (!(name in rest)) continue;
        own!.write(name, needed(rest, name, shape));
        delete rest[name];
      }
      const [first, ...others] = Object.keys(rest);
      if (first !== undefined)
        throw new Error(`The step has no tensor "${first}"${others.length ? ` (nor ${others.length} others)` : ""}.`);
    },
    release() {
      if (!open) return;
      open = false;
      if (!busy) close();
    },
  };
}
