/** Low-shot classification on frozen features: logistic regression on a few labels of every class, over several draws. */
import { scalings, type Scaling } from "../graphs/probe.js";
import { meanAndDeviation, type Evaluator, type Labelled, type Metrics } from "./evaluator.js";
import { scaled, scoreHeads } from "./heads.js";
import { fittedLogistic, logistic, type LogisticFitOptions } from "./logistic.js";
import { dividedByClass, rowsAt, shareOf, trainAndTest } from "./split.js";

export interface LowshotOptions extends LogisticFitOptions {
  /** Per cent of every class's labels. */
  percent: number[];
  /** Labels a class. */
  shots: number[];
  /** Draws of each size. */
  draws: number;
  /** scikit-learn's C; fixed, for there is no label to spare for choosing it. */
  c: number;
  scaling: Scaling;
  seed: number;
}

export const lowshot: Evaluator<LowshotOptions> = {
  summary: "Logistic regression on 1 %, 10 %, or a few labels a class: mean ± deviation over draws",
  defaults: {
    percent: [1, 10],
    shots: [1, 5],
    draws: 5,
    c: 1,
    scaling: "unit",
    maxSteps: logistic.defaults.maxSteps,
    tolerance: logistic.defaults.tolerance,
    seed: 0,
  },
  counts: ["shots", "draws", "maxSteps"],
  choices: { scaling: scalings },
  judges: "features",
  protocol: ({ draws, c, scaling }) =>
    `L-BFGS, C = ${c}, features scaled: ${scaling}, no augmentation; mean ± deviation over ${draws} draws of labels`,
  async evaluate(subject, options) {
    const { engine, classes } = subject;
    const { train, test } = await trainAndTest(subject, options.seed);
    const sizes: [name: string, count: (n: number) => number][] = [
      ...options.percent.map((p): [string, (n: number) => number] => [`${p}%`, shareOf(p / 100)]),
      ...options.shots.map((k): [string, (n: number) => number] => [`${k}shot`, (n) => Math.min(k, n)]),
    ];
    const out: Metrics = {};
    for (const [name, count] of sizes) {
      const scores: number[] = [];
      for (let draw = 0; draw < options.draws; draw++) {
        const { part } = dividedByClass(train.labels, count, options.seed + draw, `lowshot ${name}`);
        const [few, asked] = (await scaled(engine, [rowsAt(train, part), test], options.scaling)) as [
          Labelled,
          Labelled,
        ];
        const { heads } = await fittedLogistic(engine, few, classes.length, [options.c], options);
        scores.push((await scoreHeads(engine, heads, asked))[0]!.top1);
      }
      const { mean, deviation } = meanAndDeviation(scores);
      out[`top1@${name}`] = mean;
      out[`deviation@${name}`] = deviation;
    }
    return out;
  },
};
