/** --dry-run: what a recipe would do. */
import { dims } from "../src/onnx/graph.js";
import { sizeOf } from "../src/tensor.js";
import { leftOut, stepOf, viewsOf } from "./run.js";
import type { Recipe } from "./recipes/schema.js";

/** Copies of each parameter's size that the training engine holds: parameter, gradient buffer, its own moment, checkpoint bytes. */
const copiesOfParameters = 5;

export function dryRun(recipe: Recipe) {
  const step = stepOf(recipe, "training");
  const count = (values: { shape: readonly (number | string)[] }[]): number =>
    values.reduce((n, v) => n + sizeOf(dims(v as never)), 0);
  const parameters = count(step.parameters.map((p) => p.value));
  const state = count(step.state.map((s) => s.input));
  const inputs = count([...step.inputs]);
  const sums = count((step.accumulation?.sums ?? []).map((s) => s.input));
  const megabytes = (4 * (copiesOfParameters * parameters + 2 * state + 2 * sums + 2 * inputs)) / 1e6;
  const views = viewsOf(recipe);
  const data = { recipe, views, parameters, state, memoryMB: Math.round(megabytes) };
  const text = [
    JSON.stringify(recipe, null, 2),
    ...views.map((v) => `view ${v.name}: ${v.count} × ${v.size} px, ${JSON.stringify(v)}`),
    ...leftOut(recipe),
    `parameters: ${parameters.toLocaleString("en")} in ${step.parameters.length} tensors; state: ${state.toLocaleString("en")} in ${step.state.length}`,
    `an update: ${recipe.accumulate * recipe.batchSize} images, ${recipe.accumulate} of ${recipe.batchSize} at a time`,
    `memory before activations: about ${Math.round(megabytes)} MB (${copiesOfParameters} copies of the parameters, 2 of the state, 2 of the accumulated gradients, 2 batches)`,
  ].join("\n");
  return { data, text };
}
