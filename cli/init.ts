/** --init: weights of other toolkits, of the authors' checkpoints or of our own files, matched by name and shape. */
import { readFile } from "node:fs/promises";
import { namings, theirName, toOurs, type Naming } from "../graphs/names.js";
import { readPth } from "../src/artifacts/pth.js";
import { readSafetensors } from "../src/artifacts/safetensors.js";
import { readInitializers } from "../src/onnx/model.js";
import { tensorsOf, type TrainingStep } from "../src/step.js";
import { toFloat32, type Tensors } from "../src/tensor.js";

/** The tensors of a file: .onnx, .safetensors, or PyTorch's .pth, .pt, .tar, .ckpt; nested dicts give dotted names. */
export async function weightsIn(file: string): Promise<Tensors> {
  const bytes = await readFile(file);
  if (file.endsWith(".onnx")) return readInitializers(bytes);
  return /\.(pth|pt|tar|ckpt|bin)$/.test(file) ? readPth(bytes) : readSafetensors(bytes).tensors;
}

/** Where a file keeps a network's weights: whose names, and what stands before them. */
export interface Place {
  naming: Naming;
  prefix: string;
  matches: number;
}

/**
 * The toolkit and prefix under which most of the wanted names are found; among equals our own names and what comes first in the
 * file, so a query encoder goes before its momentum copy.
 */
export function placeOf(wanted: readonly string[], names: readonly string[]): Place | undefined {
  const places = Object.values(namings).flatMap((naming: Naming) => {
    const theirs = new Set(wanted.map((n) => theirName(naming, n)));
    const counts = new Map<string, number>();
    for (const name of names)
      for (const prefix of prefixesOf(name))
        if (theirs.has(name.slice(prefix.length))) counts.set(prefix, (counts.get(prefix) ?? 0) + 1);
    return [...counts].map(([prefix, matches]) => ({ naming, prefix, matches }));
  });
  return places.reduce<Place | undefined>((best, p) => (best && best.matches >= p.matches ? best : p), undefined);
}

/** a.b.c → "", "a.", "a.b." */
const prefixesOf = (name: string): string[] => [
  "",
  ...[...name.matchAll(/\./g)].map((m) => name.slice(0, m.index + 1)),
];

/** The tensors of a step's encoder that the file holds, by the step's names; says what matched and what did not. */
export async function initialWeights(
  file: string,
  step: TrainingStep,
  encoder: string,
  say: (line: string) => void,
): Promise<Tensors> {
  const all = await weightsIn(file).catch((e: Error) => {
    throw new Error(`--init ${file} cannot be read: ${e.message}`, { cause: e });
  });
  const weights = Object.fromEntries(Object.entries(all).filter(([name]) => !name.startsWith("constant/")));
  const shapes = new Map(
    tensorsOf(step)
      .filter(({ name }) => name.startsWith(`${encoder}.`))
      .map(({ name, shape }) => [name.slice(encoder.length + 1), shape]),
  );
  const place = placeOf([...shapes.keys()], Object.keys(weights));
  const prefix = place?.prefix ?? "";
  const below = Object.entries(weights).filter(([name]) => name.startsWith(prefix));
  const ours = toOurs(
    place?.naming ?? namings.own,
    Object.fromEntries(below.map(([name, t]) => [name.slice(prefix.length), t])),
  );
  const found: Tensors = {};
  const misfits: string[] = [];
  for (const [name, shape] of shapes) {
    const t = ours[name];
    if (!t) continue;
    if (t.shape.join() === shape.join()) found[`${encoder}.${name}`] = toFloat32(t);
    else misfits.push(`${name} is [${t.shape}] there, [${shape}] here`);
  }
  const matched = Object.keys(found).length;
  if (matched === 0)
    throw new Error(
      `--init ${file}: none of its ${Object.keys(weights).length} tensors fits this network${misfits.length ? ` (${misfits[0]})` : ` (it has ${Object.keys(weights).slice(0, 3).join(", ")}, …)`}.`,
    );
  const missing = [...shapes.keys()].filter((n) => !(`${encoder}.${n}` in found));
  const unused = Object.keys(ours).filter((n) => !shapes.has(n) && !n.endsWith("num_batches_tracked"));
  const elsewhere = Object.keys(weights).length - below.length;
  const { summary } = place!.naming;
  say(
    `--init ${file}: ${matched} tensors matched${prefix && ` below ${prefix.slice(0, -1)}`}, ` +
      `${missing.length} of the network start fresh${some(missing)}, ${unused.length} of the file unused${some(unused)}` +
      `${elsewhere ? `, ${elsewhere} elsewhere in it not looked at` : ""}. Its names are those of ${summary}.`,
  );
  for (const m of misfits) say(`  not taken: ${m}`);
  if (unused.some((n) => n.endsWith("qkv.bias")))
    say("  its attention has biases: --set backbone.qkvBias=true (and, for timm's, --set backbone.epsilon=1e-6).");
  return found;
}

const some = (names: readonly string[]): string =>
  names.length ? ` (${names.slice(0, 4).join(", ")}${names.length > 4 ? ", …" : ""})` : "";
