/** A training step as a plain session: parameters and state in, parameters and state out. Any ONNX Runtime runs it. */
import type { Artifacts } from "../../artifacts/manifest.js";
import type { TrainingSession } from "../index.js";
import { textAt, type Api, type Pointer } from "./api.js";
import { Binding } from "./binding.js";
import { Carried, trainingSession } from "./carried.js";
import type { Memory } from "./memory.js";
import { namesOf, openModel, type Settings } from "./session.js";

export async function openPortable(
  api: Api,
  memory: Memory,
  artifacts: Artifacts,
  settings: Settings,
): Promise<TrainingSession> {
  const { manifest, stepModel } = artifacts;
  if (!stepModel) throw new Error("These artifacts hold no step_model.onnx; build them for the portable engine.");
  const session = await openModel(api, stepModel, settings);
  const carried = new Carried(memory, artifacts, { parameters: true });
  const { state, scalars, readings } = carried;
  const elsewhere = memory.info === undefined ? [] : readElsewhere(api, session, memory.info);

  const bindings = new Map<number, Binding>();
  /** The state's turns come back: what a run reads and writes is told once for each. */
  function binding(): Binding {
    const known = bindings.get(state.turn);
    if (known) return known;
    const made = new Binding(api, session);
    bindings.set(state.turn, made);
    bind(made, () => true);
    for (const { output } of state.passages) if (output) made.output(output.name, output.at(state.side, state.batch));
    readings.names.forEach((name, i) => made.output(name, readings.values[i]!));
    return made;
  }
  /** Tells which values its inputs are, but for the batch. */
  function bind(to: Binding, which: (name: string) => boolean): void {
    manifest.scalars.forEach((name, i) => which(name) && to.input(name, scalars.values[i]!));
    for (const p of state.passages) if (which(p.name)) to.input(p.name, p.input(state.side, state.batch));
  }

  return trainingSession(carried, {
    async run(inputs) {
      const bound = binding();
      manifest.inputs.forEach(({ name }, i) => bound.input(name, inputs[i]!));
      if (elsewhere.length) bind(bound, (name) => elsewhere.includes(name)); // binding copies them to where they are read
      await api.call(api.ort.RunWithBinding, session, null, bound.pointer);
    },
    release() {
      for (const b of bindings.values()) b.release();
      api.ort.ReleaseSession(session);
    },
  });
}

/** Inputs that nodes of another device read: on a card those of nodes that run on the CPU. */
function readElsewhere(api: Api, session: Pointer, memory: Pointer): string[] {
  const names = namesOf(api, session, "Input");
  const infos: (Pointer | null)[] = names.map(() => null);
  api.check(api.ort.SessionGetMemoryInfoForInputs(session, infos, names.length));
  const nameOf = (info: Pointer): string => textAt(api.make(api.ort.MemoryInfoGetName, info));
  const here = nameOf(memory);
  return names.filter((_, i) => infos[i] && nameOf(infos[i]) !== here);
}
