/** Runs a graph once: values in, tensors out. */
import type { Engine } from "../src/engines/index.js";
import { toModel } from "../src/onnx/model.js";
import type { Value } from "../src/onnx/graph.js";
import type { Tensors } from "../src/tensor.js";

/** The named values, computed with graph inputs fed by name. */
export async function evaluate(
  engine: Engine,
  inputs: readonly Value[],
  outputs: Record<string, Value>,
  feeds: Tensors,
): Promise<Tensors> {
  const session = await engine.session(toModel({ inputs, outputs }));
  try {
    return await session.run(Object.fromEntries(inputs.map((v) => [v.name!, feeds[v.name!]!])));
  } finally {
    session.release();
  }
}
