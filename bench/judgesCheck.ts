/** node dist/bench/judgesCheck.js OUT: what bench/python/check_judges.py compares with scikit-learn: two sets of features and our fits. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { scoreHeads } from "../evaluators/heads.js";
import { fittedLogistic } from "../evaluators/logistic.js";
import type { Labelled } from "../evaluators/evaluator.js";
import { matrix, vector } from "../evaluators/features.js";
import { writeSafetensors } from "../src/artifacts/safetensors.js";
import { openEngine } from "../src/engines/native/index.js";
import { random } from "../src/random.js";
import { trainingLibrary } from "../src/runtimes.js";

const [width, classes] = [64, 10];

/** Points around one centre a class, columns of very different spread. */
function clouds(n: number, seed: number): Labelled {
  const centres = Array.from({ length: classes * width }, (_, i) => random(0, "centre", i).normal());
  const r = random(seed, "clouds");
  const labels = Int32Array.from({ length: n }, () => r.integer(classes));
  const data = Float32Array.from({ length: n * width }, (_, i) => {
    const d = i % width;
    return (centres[labels[Math.floor(i / width)]! * width + d]! + 3 * r.normal()) * (0.1 + d / width);
  });
  return { features: { data, length: n, width }, labels };
}

const [out = "."] = process.argv.slice(2);
const engine = openEngine({ library: await trainingLibrary(), name: "training" });
const [train, test] = [clouds(1000, 1), clouds(1000, 2)];
const c = [1e-4, 1e-2, 1, 100];
const { heads } = await fittedLogistic(engine, train, classes, c, { maxSteps: 5000, tolerance: 1e-6 });
const [onTrain, onTest] = [await scoreHeads(engine, heads, train), await scoreHeads(engine, heads, test)];
await writeFile(
  join(out, "judges.safetensors"),
  writeSafetensors({
    train: matrix(train.features),
    trainLabels: vector(train.labels),
    test: matrix(test.features),
    testLabels: vector(test.labels),
  }),
);
await writeFile(
  join(out, "judges.json"),
  JSON.stringify(c.map((v, i) => ({ c: v, train: onTrain[i], test: onTest[i] }))),
);
