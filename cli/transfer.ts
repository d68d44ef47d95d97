/** diptych evaluate, for judges of places: the encoder trained on with a head, beside the same network from random weights. */
import { existsSync } from "node:fs";
import { mkdir, open, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { DenseEvaluator, Network } from "../evaluators/evaluator.js";
import { initialWeights } from "../graphs/encoder.js";
import type { NativeEngine } from "../src/engines/native/index.js";
import type { EvaluateFlags, Verdict } from "./evaluate.js";
import { encoderAt, ownNetwork } from "./inference/source.js";

/** The score of an encoder, and (asked for) of random weights under the same schedule; what was trained goes to --out and --picture. */
export async function transferred(
  engine: NativeEngine,
  evaluator: DenseEvaluator<object, { note: string }>,
  options: { seed?: number },
  encoderFile: string,
  { data: root, out, picture, results, scratch, say, ...flags }: EvaluateFlags,
): Promise<Verdict> {
  for (const flag of ["size", "resize", "mean", "std"] as const)
    if (flags[flag] !== undefined)
      throw new Error(`--${flag} is for judges of features; this one takes its own options by --set.`);
  if (results && !evaluator.writesResults)
    throw new Error("--results keeps the boxes of detection; this judge finds none.");
  const { bytes } = await encoderAt(encoderFile, flags);
  const network = ownNetwork(encoderFile, bytes);
  const channels = network.info.mean.length;
  if (channels !== 3)
    throw new Error(
      `${encoderFile} takes images of ${channels} channels; judges of places train on RGB. Take an encoder of data.channels=3.`,
    );
  for (const file of [out, picture, results]) if (file) await writable(file);
  const data = await evaluator.open(root, options);
  const judge = (from: Network, with_: object) => evaluator.evaluate({ engine, say, data, network: from }, with_);

  const { model, picture: drawn, results: found, ...own } = await judge(network, options);
  if (out) await writeFile(out, model);
  if (picture) await writeFile(picture, await drawn());
  if (results) await writeFile(results, found!());
  const rows: Verdict["rows"] = [{ name: "trained on", key: "", ...own }];
  if (scratch) {
    const random = { ...network, tensors: initialWeights(network.info, options.seed ?? 0) };
    const { metrics, perClass } = await judge(random, { ...options, ...evaluator.fromScratch });
    rows.push({ name: "from scratch", key: "random", metrics, perClass });
  }
  return { notes: [data.note, evaluator.protocol(options)], rows };
}

/** Found out before a long training, not after it. */
async function writable(file: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  const isNew = !existsSync(file);
  const handle = await open(file, "a").catch((e: Error) => {
    throw new Error(`${file} cannot be written: ${e.message}. Name another file.`, { cause: e });
  });
  await handle.close();
  if (isNew) await rm(file); // a training that is broken off leaves nothing empty behind
}
