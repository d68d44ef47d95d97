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
  let carried: Carried | undefined;
  try {
    carried = new Carried(memory, artifacts, { parameters: true });
    const graph = new StepGraph(api, session, carried);
    return trainingSession(carried, settings.graphs ? await captured(graph, initial) : graph);
  } catch (error) {
    carried?.release();
    api.ort.ReleaseSession(session);
    throw error;
  }
}

/** The session of a step, told which places it reads and writes: once for each turn of the state, as they come back. */
export class StepGraph implements Packaging {
  private readonly bindings = new Map<number, Binding>();
  /** Inputs that nodes of another device read: on a card those of nodes that run on the CPU. */
  readonly elsewhere: ReadonlySet<string>;

  constructor(
    readonly api: Api,
    readonly session: Pointer,
    readonly carried: Carried,
  ) {
    const { info } = carried.memory;
    this.elsewhere = new Set(info === undefined ? [] : readElsewhere(api, session, info));
  }

  /** The state's turn with these inputs. */
  bound(inputs: readonly Value[]): Binding {
    const { state, readings, manifest } = this.carried;
    let binding = this.bindings.get(state.turn);
    if (binding) {
      if (this.elsewhere.size) this.bind(binding, (name) => this.elsewhere.has(name)); // binding copies them to where they are read
    } else {
      binding = new Binding(this.api, this.session);
      this.bindings.set(state.turn, binding);
      this.bind(binding, () => true);
      for (const { output } of state.passages)
        if (output) binding.output(output.name, output.at(state.side, state.batch));
      for (const [i, name] of readings.names.entries()) binding.output(name, readings.values[i]!);
    }
    for (const [i, { name }] of manifest.inputs.entries()) binding.input(name, inputs[i]!);
    return binding;
  }
  private bind(binding: Binding, which: (name: string) => boolean): void {
    const { state, scalars, manifest } = this.carried;
    for (const [i, name] of manifest.scalars.entries()) if (which(name)) binding.input(name, scalars.values[i]!);
    for (const p of state.passages) if (which(p.name)) binding.input(p.name, p.input(state.side, state.batch));
  }

  run(inputs: readonly Value[]): Promise<void> {
    return this.api.call(this.api.ort.RunWithBinding, this.session, null, this.bound(inputs).pointer);
  }
  release(): void {
    for (const b of this.bindings.values()) b.release();
    this.api.ort.ReleaseSession(this.session);
  }
}

function readElsewhere(api: Api, session: Pointer, memory: Pointer): string[] {
  const names = namesOf(api, session, "Input");
  const infos: (Pointer | null)[] = names.map(() => null);
  api.check(api.ort.SessionGetMemoryInfoForInputs(session, infos, names.length));
  const nameOf = (info: Pointer): string => textAt(api.make(api.ort.MemoryInfoGetName, info));
  return names.filter((_, i) => infos[i] && nameOf(infos[i]) !== nameOf(memory));
}
