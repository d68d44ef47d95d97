/** A step as two CUDA graphs, one for each side of its state: captured when the session opens, replayed at every step. */
import type { Tensors } from "../../tensor.js";
import type { Pointer } from "./api.js";
import type { Packaging } from "./carried.js";
import { Lane } from "./lane.js";
import type { StepGraph } from "./portable.js";
import type { Value } from "./value.js";

/**
 * A graph repeats what was done at its capture with what then lies in the same places: the inputs are copied to places of their own. A
 * capture fails where another thread allocates on the card meanwhile, so that both are made now. On the CPU these are plain runs.
 */
export async function captured(graph: StepGraph, initial: Tensors): Promise<Packaging> {
  const { api, session, elsewhere, carried } = graph;
  const { memory, manifest, state } = carried;
  const batches = manifest.accumulation?.batches ?? 1;
  const without = "Leave --cuda-graphs out.";
  if (batches > 1)
    throw new Error(`A CUDA graph holds a step of one batch, and this one accumulates ${batches}. ${without}`);
  if (elsewhere.size)
    throw new Error(
      `A CUDA graph reads on the card, and nodes on the CPU read ${[...elsewhere].join(", ")}. ${without}`,
    );

  const lane = new Lane(api, api.ort.RunWithBinding); // the provider keeps the graphs of each thread apart
  const options = ["1", "2"].map((id): Pointer => {
    const own = api.make(api.ort.CreateRunOptions);
    api.check(api.ort.AddRunConfigEntry(own, "gpu_graph_id", id));
    return own;
  });
  const places = manifest.inputs.map((i) => memory.room(i));
  const replay = (): Promise<void> => lane.call(session, options[state.side]!, graph.bound(places).pointer);
  const end = (): void => {
    for (const o of options) api.ort.ReleaseRunOptions(o);
    lane.release();
    for (const v of places) v.release();
  };

  try {
    for (const v of places) memory.clear(v);
    for (const side of [0, 1] as const) {
      state.side = side;
      await replay(); // captures
      await replay();
    }
  } catch (error) {
    end();
    throw error;
  }
  state.side = 0;
  state.load(initial);
  return {
    run(inputs: readonly Value[]) {
      inputs.forEach((v, i) => memory.copy(v, places[i]!));
      return replay();
    },
    release() {
      graph.release();
      end();
    },
  };
}
