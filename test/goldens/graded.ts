/** What golden files ask of a loss: its values, and gradients of several of them with respect to the inputs as given. */
import { gradients } from "../../src/autodiff.js";
import { input, type Value } from "../../src/onnx/graph.js";
import type { NativeEngine } from "../../src/engines/native/index.js";
import type { Tensors } from "../../src/tensor.js";
import { evaluate } from "../evaluate.js";
import { given, type GoldenTensor, type Got } from "./case.js";

export const origin = (engine: NativeEngine, path = "student") => ({
  path,
  dialect: engine.training ? ("training" as const) : ("portable" as const),
});

/** Golden tensors as graph inputs of the engine's dialect, with their feeds. */
export function inputsOf(
  engine: NativeEngine,
  tensors: Record<string, GoldenTensor>,
): { values: Record<string, Value>; feeds: Tensors } {
  const entries = Object.entries(tensors);
  return {
    values: Object.fromEntries(entries.map(([n, t]) => [n, input(n, "float32", t.shape, origin(engine))])),
    feeds: Object.fromEntries(entries.map(([n, t]) => [n, given(t)])),
  };
}

/** Runs `outputs`, and under each name of `wanted` the gradient of a scalar with respect to a value. */
export async function graded(
  engine: NativeEngine,
  inputs: readonly Value[],
  feeds: Tensors,
  outputs: Record<string, Value>,
  wanted: Record<string, [loss: Value, wrt: Value]>,
): Promise<Got> {
  const grads = Object.entries(wanted).map(([name, [loss, wrt]]) => [name, gradients(loss, [wrt])[0]!] as const);
  const out = await evaluate(engine, inputs, { ...outputs, ...Object.fromEntries(grads) }, feeds);
  return Object.fromEntries(Object.entries(out).map(([name, t]) => [name, t.data as Float32Array]));
}
