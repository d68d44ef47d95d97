/** Multinomial logistic regression on frozen features by L-BFGS, a sweep over the penalty in one pass. */
import { logisticStep, scalings, type Scaling } from "../graphs/probe.js";
import { releaseAll } from "../src/engines/index.js";
import type { NativeEngine } from "../src/engines/native/index.js";
import { zeros } from "../src/tensor.js";
import type { Evaluator, Labelled } from "./evaluator.js";
import { bestOf, openStep, scaled, scoreHeads, uploaded, type Heads } from "./heads.js";
import { heldOutShare } from "./linear.js";
import { dividedByClass, rowsAt, shareOf, trainAndTest } from "./split.js";

export interface LogisticFitOptions {
  /** Evaluations of the objective at most. */
  maxSteps: number;
  /** Ends where no partial derivative of any head is larger. */
  tolerance: number;
}

export interface LogisticOptions extends LogisticFitOptions {
  /** scikit-learn's C, fitted side by side: the penalty is ‖W‖²/(2·C·N) beside the mean cross-entropy. */
  c: number[];
  scaling: Scaling;
  seed: number;
}

export const logistic: Evaluator<LogisticOptions> = {
  summary: "Multinomial logistic regression on frozen features: L-BFGS, the penalty chosen on a held-out tenth",
  defaults: {
    c: [1e-4, 1e-3, 1e-2, 1e-1, 1, 10, 100],
    maxSteps: 1000,
    tolerance: 1e-4,
    scaling: "standard",
    seed: 0,
  },
  counts: ["maxSteps"],
  choices: { scaling: scalings },
  judges: "features",
  protocol: ({ c, scaling }) =>
    `L-BFGS on all of train, features scaled: ${scaling}, no augmentation; ` +
    (c.length > 1 ? `C of ${c.length} chosen on a held-out tenth of train, fitted again on all` : `C = ${c[0]}`),
  async evaluate(subject, options) {
    const { engine, classes, say } = subject;
    const sets = await trainAndTest(subject, options.seed);
    const [all, test] = (await scaled(engine, [sets.train, sets.test], options.scaling)) as [Labelled, Labelled];
    const c = await chosenPenalty(engine, all, classes.length, options);
    const { heads, slope } = await fittedLogistic(engine, all, classes.length, [c], options);
    if (slope > options.tolerance)
      say(`After ${options.maxSteps} steps the slope is ${slope.toExponential(1)}: raise maxSteps to converge.`);
    const [onTest] = await scoreHeads(engine, heads, test);
    const [onTrain] = await scoreHeads(engine, heads, all);
    const { top1, top5, se, loss } = onTest!;
    return { top1, top5, se, loss, trainLoss: onTrain!.loss, c };
  },
};

async function chosenPenalty(engine: NativeEngine, all: Labelled, classes: number, options: LogisticOptions) {
  if (options.c.length === 1) return options.c[0]!;
  const { part, rest } = dividedByClass(all.labels, shareOf(heldOutShare), options.seed, "held out");
  const { heads } = await fittedLogistic(engine, rowsAt(all, rest), classes, options.c, options);
  return options.c[bestOf(await scoreHeads(engine, heads, rowsAt(all, part)))]!;
}

/** One head for each C, and the largest partial derivative that is left. */
export async function fittedLogistic(
  engine: NativeEngine,
  rows: Labelled,
  classes: number,
  c: readonly number[],
  { maxSteps, tolerance }: LogisticFitOptions,
): Promise<{ heads: Heads; slope: number }> {
  const { length: n, width } = rows.features;
  const step = logisticStep({
    dialect: engine.dialect,
    rows: n,
    width,
    classes,
    penalties: c.map((v) => 1 / (v * n)),
    memory: 10,
  });
  const session = await openStep(engine, step, 0);
  const feeds = await uploaded(engine, rows);
  try {
    let slope = Infinity;
    for (let i = 0; i < maxSteps && slope > tolerance; i++) {
      const { applied } = await session.step(feeds, {});
      slope = session.metrics().slope!;
      if (!applied) break; // no step is short enough: the line search has reached the last bit
    }
    return { heads: divided(session.tensors().at!.data as Float32Array, c.length, classes, width), slope };
  } finally {
    releaseAll(feeds);
    session.release();
  }
}

/** [L,C,D+1] → weight [L,C,D] and bias [L,C] */
function divided(point: Float32Array, heads: number, classes: number, width: number): Heads {
  const weight = zeros("float32", [heads, classes, width]);
  const bias = zeros("float32", [heads, classes]);
  for (let r = 0; r < heads * classes; r++) {
    const from = r * (width + 1);
    weight.data.set(point.subarray(from, from + width), r * width);
    bias.data[r] = point[from + width]!;
  }
  return { weight, bias };
}
