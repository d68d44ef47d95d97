/** The judges: any encoder.onnx in, numbers out. One file each, one line here. */
import type { DenseEvaluator, Evaluator } from "./evaluator.js";
import { detection } from "./detection/index.js";
import { finetune } from "./finetune.js";
import { knn } from "./knn.js";
import { linear } from "./linear.js";
import { logistic } from "./logistic.js";
import { lowshot } from "./lowshot.js";
import { segmentation } from "./segmentation/index.js";

export * from "./bag.js";
export * from "./coco/index.js";
export * from "./collapse.js";
export * from "./evaluator.js";
export * from "./features.js";
export * from "./knn.js";
export * from "./maps.js";
export * from "./miou.js";
export * from "./principal.js";
export * from "./voc.js";
export * from "./vocFiles.js";

/* eslint-disable @typescript-eslint/no-explicit-any -- options and data differ from entry to entry */
export const evaluators = { detection, finetune, knn, linear, logistic, lowshot, segmentation } satisfies Record<
  string,
  Evaluator<any> | DenseEvaluator<any, any>
>;
export type EvaluatorName = keyof typeof evaluators;
