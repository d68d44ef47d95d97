/** A training step as a plain session: parameters and state in, parameters and state out. Any ONNX Runtime runs it. */
import type { Artifacts } from "../../artifacts/manifest.js";
import type { TrainingSession } from "../index.js";
import { textAt, type Api, type Pointer } from "./api.js";
import { Binding } from "./binding.js";
import { Carried, trainingSession, type Packaging } from "./carried.js";
import type { Memory } from "./memory.js";
import { captured } from "./replay.js";
import { namesOf, openModel, type Settings } from "./session.js";
import type { Value } from "./value.js";

export async function openPortable(
  api: Api,
  memory: Memory,
  artifacts: Artifacts,
  settings: Settings,
): Promise<TrainingSession> {
  const { stepModel, initial } = artifacts;
  if (!stepModel) throw new Error("These artifacts hold no step_model.onnx; build them for the portable engine.");
  const session = await openModel(api, stepModel, settings);
  let [carried, graph]: [Carried?, StepGraph?] = [];
  try {
    carried = new Carried(memory, artifacts, { parameters: true });
    graph = new StepGraph(api, session, carried);
    return trainingSession(carried, settings.graphs ? await captured(graph, initial) : graph);
  } catch (error) {
    if (graph) graph.release();
    else api.ort.ReleaseSession(session);
    carried?.release();
    throw error;
  }
}

/** The session of a step, told which places it reads and writes: once for each turn of the state, as they come back. */
export class StepGraph implements Packaging {
  private readonly bindings = new Map<number, Binding>();
  /** Inputs that nodes of another device read: on a card those of nodes that run on the CPU. */
  readonly elsewhere: ReadonlySet<string>;
  /** On a device: what is bound in place of inputs that have been read. */
  private readonly nothing?: Value;

  constructor(
    readonly api: Api,
    readonly session: Pointer,
    readonly carried: Carried,
  ) {
    const { info } = carried.memory;
    this.elsewhere = new Set(info === undefined ? [] : readElsewhere(api, session, info));
    this.nothing = info === undefined ? undefined : carried.memory.room({ dtype: "float32", shape: [1] });
  }

  /** The state's turn with these inputs. */
  bound(inputs: readonly Value[]): Binding {
    const { state, readings, manifest } = this.carried;
    const known = this.bindings.get(state.turn);
    const binding = known ?? new Binding(this.api, this.session);
    try {
      // what is read elsewhere is copied there by binding it
      if (!known || this.elsewhere.size) this.bind(binding, (name) => !known || this.elsewhere.has(name));
      if (!known) {
        for (const { output } of state.passages)
          if (output) binding.output(output.name, output.at(state.side, state.batch));
        for (const [i, name] of readings.names.entries()) binding.output(name, readings.values[i]!);
      }
      for (const [i, { name }] of manifest.inputs.entries()) binding.input(name, inputs[i]!);
    } catch (error) {
      if (!known) binding.release();
      throw error;
    }
    this.bindings.set(state.turn, binding);
    return binding;
  }
  private bind(binding: Binding, which: (name: string) => boolean): void {
    const { state, scalars, manifest } = this.carried;
    for (const [i, name] of manifest.scalars.entries()) if (which(name)) binding.input(name, scalars.values[i]!);
    for (const p of state.passages) if (which(p.name)) binding.input(p.name, p.input(state.side, state.batch));
  }

  async run(inputs: readonly Value[]): Promise<void> {
    const binding = this.bound(inputs);
    try {
      await this.api.call(this.api.ort.RunWithBinding, this.session, null, binding.pointer);
    } finally {
      // a binding holds on to what it reads: a batch would stay on the device until this turn comes again
      if (this.nothing) for (const { name } of this.carried.manifest.inputs) binding.input(name, this.nothing);
    }
  }
  release(): void {
    for (const b of this.bindings.values()) b.release();
    this.nothing?.release();
    this.api.ort.ReleaseSession(this.session);
  }
}

function readElsewhere(api: Api, session: Pointer, memory: Pointer): string[] {
  const names = namesOf(api, session, "Input");
  if (!api.later) return names; // an older library does not say: all are bound anew for each run
  const infos: (Pointer | null)[] = names.map(() => null);
  api.check(api.later.SessionGetMemoryInfoForInputs(session, infos, names.length));
  const nameOf = (info: Pointer): string => textAt(api.make(api.ort.MemoryInfoGetName, info));
  return names.filter((_, i) => infos[i] && nameOf(infos[i]) !== nameOf(memory));
}
