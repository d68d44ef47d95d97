/** k-nearest neighbours on frozen features (Wu et al., CVPR 2018, arXiv 1805.01978), run as a graph on the engine. */
import { knnModel } from "../graphs/knn.js";
import { releaseAll, type Engine } from "../src/engines/index.js";
import { zeros, type Tensor } from "../src/tensor.js";
import { accuracyOf, type Accuracy, type Evaluator, type Labelled } from "./evaluator.js";
import { matrix, normalizeRows, vector } from "./features.js";

export interface KnnOptions {
  /** How many neighbours vote; several are answered in one pass. 10, 20, 100 and 200 are usual. */
  k: number[];
  /** τ of the votes exp(similarity/τ): 0.07 in most papers. */
  temperature: number;
  /** weighted, or majority: one vote each, as ISD's k = 1 and k = 20. */
  vote: "weighted" | "majority";
}

/** Numbers of one block of similarities [Q,N]. */
const blockSize = 2 ** 25;

/**
 * One accuracy for each k: `queries` judged by the labels of `bank`; without queries the bank by itself, each image left out of its
 * own vote. Features are normalised in place.
 */
export async function nearest(
  engine: Engine,
  bank: Labelled,
  queries: Labelled | undefined,
  classes: number,
  { k, temperature, vote }: KnnOptions,
): Promise<Accuracy[]> {
  const leaveOneOut = queries === undefined;
  const asked = queries ?? bank;
  const { length: n, width } = bank.features;
  const most = Math.max(...k);
  if (most > n - (leaveOneOut ? 1 : 0))
    throw new Error(
      `${most} neighbours are more than the bank has: ${n} images${leaveOneOut ? ", each left out of its own vote" : ""}. Lower k.`,
    );
  normalizeRows(bank.features);
  if (!leaveOneOut) normalizeRows(asked.features);
  const session = await engine.session(knnModel({ bank: n, width, classes, k, temperature, vote, leaveOneOut }));
  const fixed = await engine.upload({ bank: matrix(bank.features), bankLabels: vector(bank.labels) });
  const chunk = Math.min(512, Math.max(8, Math.floor(blockSize / n)));
  const places = new Float32Array(asked.features.length * k.length);
  try {
    for (let start = 0; start < asked.features.length; start += chunk) {
      const end = Math.min(start + chunk, asked.features.length);
      const out = await session.run(
        {
          ...fixed,
          queries: matrix(asked.features, start, end),
          labels: vector(asked.labels.subarray(start, end)),
          ...(leaveOneOut && { self: counted(start, end) }),
        },
        ["places"],
      );
      places.set(out.places!.data as Float32Array, start * k.length);
    }
  } finally {
    releaseAll(fixed);
    session.release();
  }
  return k.map((_, column) => accuracyOf(places, column, k.length));
}

function counted(start: number, end: number): Tensor {
  const t = zeros("int64", [end - start]);
  for (let i = start; i < end; i++) t.data[i - start] = BigInt(i);
  return t;
}

export const knn: Evaluator<KnnOptions> = {
  summary: "k-nearest neighbours on frozen features; leave-one-out where there is no test split",
  defaults: { k: [20], temperature: 0.07, vote: "weighted" },
  counts: ["k"],
  choices: { vote: ["weighted", "majority"] },
  judges: "features",
  protocol: ({ k, temperature, vote }) =>
    `${vote === "weighted" ? `votes exp(cosine/${temperature})` : "majority vote"}, k = ${k.join(", ")}`,
  async evaluate({ engine, classes, train, test }, options) {
    const bank = { features: await train.features(), labels: train.labels };
    const queries = test && { features: await test.features(), labels: test.labels };
    const scores = await nearest(engine, bank, queries, classes.length, options);
    return Object.fromEntries(
      scores.flatMap(({ top1, top5, se }, i) => [
        [`top1@${options.k[i]}`, top1],
        [`top5@${options.k[i]}`, top5],
        [`se@${options.k[i]}`, se],
      ]),
    );
  },
};
