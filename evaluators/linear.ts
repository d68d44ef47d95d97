/** The linear probe: one softmax layer on frozen features by SGD, a sweep over learning rates in one pass. */
import { scalings, sgdHeadsStep, type Scaling } from "../graphs/probe.js";
import { epochOrder } from "../src/data/loader.js";
import { releaseAll, type Residents } from "../src/engines/index.js";
import type { NativeEngine } from "../src/engines/native/index.js";
import type { Schedule } from "../src/schedules.js";
import { zeros, type Tensor } from "../src/tensor.js";
import { train, type Prepared } from "../src/train.js";
import type { Evaluator, Labelled, Metrics } from "./evaluator.js";
import { bestOf, openStep, scaled, scoreHeads, uploaded, type Heads } from "./heads.js";
import { dividedByClass, inEveryView, rowsAt, shareOf, trainTestAndShown } from "./split.js";

export interface LinearOptions {
  /** Learning rates at batchSize 256, trained side by side; scaled by batchSize/256. 30 is MoCo's and DenseCL's, 0.02 VICReg's, 0.01 ISD's. */
  lr: number[];
  /** cosine to 0, or step: ×0.1 at 60 % and 80 % of the epochs, as MoCo and DenseCL. */
  schedule: "cosine" | "step";
  epochs: number;
  batchSize: number;
  /** Random crops and flips of each image, of which each epoch takes the next; 1: the centre crop alone. */
  views: number;
  momentum: number;
  /** 0 in MoCo and DenseCL, 1e-4 in ISD. */
  weightDecay: number;
  /** none: features as they are (MoCo, DenseCL, VICReg); unitStandard: ISD's; standard: columns of mean 0, deviation 1. */
  scaling: Scaling;
  seed: number;
  /** last: the rate is chosen on a held-out tenth, all is trained again, the last epoch counts; best-on-test: what several released scripts report. */
  faithful: "last" | "best-on-test";
}

/** Share of every class that chooses the learning rate. */
export const heldOutShare = 0.1;

export const linear: Evaluator<LinearOptions> = {
  summary: "A linear classifier on frozen features: SGD, the learning rate chosen on a held-out tenth",
  defaults: {
    lr: [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30],
    schedule: "cosine",
    epochs: 100,
    batchSize: 256,
    views: 1,
    momentum: 0.9,
    weightDecay: 0,
    scaling: "none",
    seed: 0,
    faithful: "last",
  },
  counts: ["epochs", "batchSize", "views"],
  choices: { schedule: ["cosine", "step"], scaling: scalings, faithful: ["last", "best-on-test"] },
  judges: "features",
  protocol: ({ lr, schedule, epochs, batchSize, views, scaling, faithful }) =>
    `SGD, ${schedule} over ${epochs} epochs, batch ${batchSize}, features scaled: ${scaling}, ` +
    `${views > 1 ? `${views} random crops and flips of each image in turn` : "no augmentation"}; ` +
    (faithful === "best-on-test"
      ? `BEST TEST EPOCH of ${lr.length} learning rates: chosen on the test set itself`
      : lr.length > 1
        ? `learning rate of ${lr.length} chosen on a held-out tenth of train, trained again on all, last epoch`
        : `learning rate ${lr[0]}, last epoch`),
  async evaluate(subject, options) {
    const { engine, classes } = subject;
    const sets = await trainTestAndShown(subject, options.seed, options.views);
    const [all, test, shown] = (await scaled(engine, [sets.train, sets.test, sets.shown], options.scaling)) as [
      Labelled,
      Labelled,
      Labelled,
    ];
    if (options.faithful === "best-on-test") return bestOnTest(engine, shown, test, classes.length, options);
    const lr = await chosenRate(engine, all, shown, classes.length, options);
    const heads = await fitted(engine, shown, classes.length, { ...options, lr: [lr] });
    const [{ top1, top5, se, loss }] = (await scoreHeads(engine, heads, test)) as [never];
    return { top1, top5, se, loss, lr };
  },
};

/** The learning rate whose head does best on a tenth of every class that it was not trained on. */
async function chosenRate(
  engine: NativeEngine,
  all: Labelled,
  shown: Labelled,
  classes: number,
  options: LinearOptions,
): Promise<number> {
  if (options.lr.length === 1) return options.lr[0]!;
  const { part, rest } = dividedByClass(all.labels, shareOf(heldOutShare), options.seed, "held out");
  const heads = await fitted(
    engine,
    rowsAt(shown, inEveryView(rest, all.labels.length, options.views)),
    classes,
    options,
  );
  return options.lr[bestOf(await scoreHeads(engine, heads, rowsAt(all, part)))]!;
}

/** The highest test top1 over all epochs and learning rates, under a name that says so. */
async function bestOnTest(
  engine: NativeEngine,
  shown: Labelled,
  test: Labelled,
  classes: number,
  options: LinearOptions,
): Promise<Metrics> {
  let best: Metrics = { bestOnTestTop1: -1 };
  await fitted(engine, shown, classes, options, async (heads, epoch) => {
    const scores = await scoreHeads(engine, heads, test);
    const winner = bestOf(scores);
    const { top1, top5 } = scores[winner]!;
    if (top1 > best.bestOnTestTop1!)
      best = { bestOnTestTop1: top1, bestOnTestTop5: top5, lr: options.lr[winner]!, epoch };
  });
  return best;
}

const schedules: Record<LinearOptions["schedule"], (epochs: number) => Schedule> = {
  cosine: () => ({ schedule: "cosine", peak: 1 }),
  step: (epochs) => ({ schedule: "step", peak: 1, milestones: [0.6 * epochs, 0.8 * epochs] }),
};

/** One head for each learning rate, trained on the rows, which are those of o.views views, view by view. */
async function fitted(
  engine: NativeEngine,
  rows: Labelled,
  classes: number,
  o: LinearOptions,
  onEpoch?: (heads: Heads, epoch: number) => Promise<void>,
): Promise<Heads> {
  const { length: all, width } = rows.features;
  const length = all / o.views;
  const batchSize = Math.min(o.batchSize, length);
  const { momentum, weightDecay } = o;
  const step = sgdHeadsStep({
    dialect: engine.dialect,
    rows: all,
    width,
    classes,
    batchSize,
    lrs: o.lr.map((lr) => (lr * batchSize) / 256),
    momentum,
    weightDecay,
    nesterov: false,
    exclude: "none",
  });
  const session = await openStep(engine, step, o.seed);
  const heads = (): Heads => {
    const tensors = session.tensors();
    return { weight: tensors["heads.weight"]!, bias: tensors["heads.bias"]! };
  };
  const fixed = await uploaded(engine, rows);
  try {
    await train({
      session,
      batches: batchesOf(fixed, length, batchSize, o),
      scalars: { lr: schedules[o.schedule](o.epochs) },
      startStep: 0,
      stepsPerEpoch: Math.floor(length / batchSize),
      epochs: o.epochs,
      onEpoch: onEpoch && ((epoch) => onEpoch(heads(), epoch)),
    });
    return heads();
  } finally {
    releaseAll(fixed);
    session.release();
  }
}

/** Row numbers of each batch, in the loader's order, an epoch on each view in turn; what does not fill a batch is left to the next epoch's order. */
async function* batchesOf(
  fixed: Residents,
  n: number,
  batchSize: number,
  { seed, views }: LinearOptions,
): AsyncGenerator<Prepared, never> {
  for (let epoch = 0; ; epoch++) {
    const order = epochOrder(seed, epoch, n);
    const first = (epoch % views) * n;
    for (let batch = 0; (batch + 1) * batchSize <= n; batch++) {
      const rows: Tensor = zeros("int64", [batchSize]);
      for (let i = 0; i < batchSize; i++) rows.data[i] = BigInt(first + order[batch * batchSize + i]!);
      yield await Promise.resolve({ epoch, batch, inner: 0, inputs: { ...fixed, batch: rows } });
    }
  }
}
