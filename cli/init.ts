/** --init: weights from a file of torchvision's, timm's or our own names, or from an encoder.onnx, matched by name and shape. */
import { readFile } from "node:fs/promises";
import { readSafetensors } from "../src/artifacts/safetensors.js";
import { readInitializers } from "../src/onnx/model.js";
import type { TrainingStep } from "../src/step.js";
import type { Tensors } from "../src/tensor.js";
import { fromTimm } from "./timm.js";

/** Prefixes that other toolkits put before a backbone's names. */
const prefixes = ["", "module.", "backbone.", "module.backbone.", "encoder.", "model."];

/** The tensors of a step that the file holds, by the step's names; says what matched and what did not. */
export async function initialWeights(
  file: string,
  step: TrainingStep,
  encoder: string,
  say: (line: string) => void,
): Promise<Tensors> {
  const bytes = await readFile(file).catch((e: Error) => {
    throw new Error(`--init ${file} cannot be read: ${e.message}`, { cause: e });
  });
  const read = file.endsWith(".onnx") ? readInitializers(bytes) : readSafetensors(bytes).tensors;
  const weights = fromTimm(read, (line) => say(`--init ${file}: ${line}`));
  const wanted = [
    ...step.parameters.map((p) => ({ name: p.name, shape: p.value.shape })),
    ...step.state.map((s) => ({ name: s.name, shape: s.input.shape })),
  ].filter(({ name }) => name.startsWith(`${encoder}.`));
  const found: Tensors = {};
  const used = new Set<string>();
  const misfits: string[] = [];
  for (const { name, shape } of wanted) {
    const short = name.slice(encoder.length + 1);
    const source = prefixes.map((p) => p + short).find((n) => n in weights) ?? (name in weights ? name : undefined);
    if (source === undefined) continue;
    used.add(source);
    if (weights[source]!.shape.join() === shape.join()) found[name] = weights[source]!;
    else misfits.push(`${source} is [${weights[source]!.shape}] there, [${shape}] here`);
  }
  const matched = Object.keys(found).length;
  if (matched === 0)
    throw new Error(
      `--init ${file}: none of its ${Object.keys(weights).length} tensors fits this network${misfits.length ? ` (${misfits[0]})` : ` (it has ${Object.keys(weights).slice(0, 3).join(", ")}, …)`}.`,
    );
  const missing = wanted.filter(({ name }) => !(name in found)).map(({ name }) => name);
  const unused = Object.keys(weights).filter((n) => !used.has(n) && !n.startsWith("constant/"));
  const some = (list: string[]): string =>
    list.length ? ` (${list.slice(0, 4).join(", ")}${list.length > 4 ? ", …" : ""})` : "";
  say(
    `--init ${file}: ${matched} tensors matched, ${missing.length} of the network start fresh${some(missing)}, ${unused.length} of the file unused${some(unused)}.`,
  );
  for (const m of misfits) say(`  not taken: ${m}`);
  return found;
}
