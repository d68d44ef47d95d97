/** A pre-training run: recipe → engine, data, step, loop, kNN, checkpoints, encoder and report, in one folder. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { featuresOf } from "../evaluators/bag.js";
import { collapsePanel, collapseWarning } from "../evaluators/collapse.js";
import { imageBatches, normalizeRows, pixelFeatures, seenBy, type Features } from "../evaluators/features.js";
import { nearest } from "../evaluators/knn.js";
import { augmentation, draw, type Draw } from "../graphs/augment.js";
import { below, boundNetwork, encoderModel, type EncoderInfo } from "../graphs/encoder.js";
import { methods, type Method } from "../graphs/methods/index.js";
import { optimizers } from "../graphs/optimizers.js";
import type { Precision } from "../graphs/precision.js";
import { trainingStep } from "../graphs/step.js";
import { packageStep, valuesOf, writeArtifacts, type Manifest } from "../src/artifacts/index.js";
import { writeSafetensors } from "../src/artifacts/safetensors.js";
import { checkFits, newestCheckpoint, saveCheckpoint, checkpointSteps, type Progress } from "../src/checkpoints.js";
import { eventFile } from "../src/tfevents.js";
import { augmenter, type Augmenter } from "../src/data/augmenter.js";
import { limited, type Dataset, type Image } from "../src/data/index.js";
import { loader } from "../src/data/loader.js";
import { releaseAll, type Residents, type TrainingSession } from "../src/engines/index.js";
import type { NativeEngine } from "../src/engines/native/index.js";
import type { Device, Dialect, Node } from "../src/onnx/graph.js";
import { withoutCudaKernel } from "../src/ops/cuda.js";
import { random } from "../src/random.js";
import type { Schedule } from "../src/schedules.js";
import { initialTensors, type TrainingStep } from "../src/step.js";
import type { Tensors } from "../src/tensor.js";
import { train, type Prepared, type StepReport } from "../src/train.js";
import { imagenetStatistics, statisticsOf, viewOf, type ViewSpec } from "../src/views.js";
import { initialWeights } from "./init.js";
import { journal } from "./journal.js";
import type { Recipe } from "./recipes/schema.js";
import { openData, readableOnly, writeAtomically, writeRecipe } from "./folder.js";
import { lifeOf, reopenBooks, type Score } from "./books.js";
import { writeReport } from "./report/index.js";

/** What a run tells the world while it goes. */
export interface Listener {
  say(line: string): void;
  step?(r: StepReport & { total: number; imagesPerSecond: number; waitShare: number }): void;
}

export interface RunOptions {
  recipe: Recipe;
  recipeName: string;
  out: string;
  engine: NativeEngine;
  resume: boolean;
  /** Weights to start from. */
  init?: string;
  listener: Listener;
  /** True once the user asked to stop. */
  stopping: () => boolean;
}

export interface RunResult {
  run: string;
  encoder: string;
  engine: string;
  steps: number;
  loss: { first: number; last: number };
  knn: { first: number; last: number; pixels: number; se: number } | null;
}

/** Views of a recipe; a part set to null is taken away. */
export function viewsOf(recipe: Recipe): ViewSpec[] {
  const { name, ...options } = recipe.method;
  const method = methods[name] as unknown as Method<object>;
  return method
    .views(options, recipe.data.size)
    .map((v) => Object.fromEntries(Object.entries(v).filter(([, part]) => part !== null)) as unknown as ViewSpec)
    .map((v) => viewOf(v, recipe.data.channels));
}

/** What is not done to images of so many channels, in words. */
export const leftOut = ({ data }: Recipe): string[] =>
  data.channels === 1
    ? ["Images of one channel have no colours: saturation, hue and grey of the views are left out."]
    : [];

/** The training step that a recipe describes. */
export function stepOf(recipe: Recipe, dialect: Dialect, device: Device = "cpu"): TrainingStep {
  const { name: methodName, ...methodOptions } = recipe.method;
  const { name: optimizerName, clipNorm, clipInfinityNorm, clipValue, ...optimizerOptions } = recipe.optimizer;
  return trainingStep({
    dialect,
    device,
    method: methods[methodName] as never,
    methodOptions,
    network: boundNetwork(recipe.backbone.name, recipe.backbone),
    optimizer: optimizers[optimizerName] as never,
    optimizerOptions,
    batchSize: recipe.batchSize,
    accumulate: recipe.accumulate,
    convolutions: recipe.convolutions,
    precision: recipe.precision,
    lossScale: recipe.lossScale,
    size: recipe.data.size,
    channels: recipe.data.channels,
    clipNorm,
    clipInfinityNorm,
    clipValue,
  });
}

/** What a precision comes to without a card. */
function onCpu(precision: Precision): string | undefined {
  switch (precision) {
    case "fp32":
      return undefined;
    case "tf32":
      return "Precision tf32 is a card's; on the CPU it is fp32.";
    case "fp16":
      return "On the CPU, float16 is computed in float32 with casts between: slower than fp32, and good for checks alone.";
    case "bf16":
      throw new Error("The CPU has no kernels for bfloat16. Take --precision fp32, or --device cuda.");
    default:
      return precision satisfies never;
  }
}

/** A node that holds up a step on a card. */
export const runsOnCpu = ({ op, origin }: Node): string =>
  `${origin?.path || "graph"}: ${op.type} has no CUDA kernel and runs on the CPU.`;

/** lr and the method's own scheduled scalars. */
export function schedulesOf(recipe: Recipe): Record<string, Schedule> {
  const { name, ...options } = recipe.method;
  const method = methods[name] as unknown as Method<object>;
  return { lr: recipe.optimizer.lr as Schedule, ...method.scalars?.(options) };
}

/** Steps that the method takes on the images of one. */
function stepsPerBatchOf(recipe: Recipe): number {
  const { name, ...options } = recipe.method;
  return (methods[name] as unknown as Method<object>).stepsPerBatch?.(options) ?? 1;
}

/** Images that make one update. */
export const imagesPerStep = (recipe: Recipe): number => recipe.accumulate * recipe.batchSize;

const tooLarge = ({ accumulate, batchSize }: Recipe, images: number): string =>
  accumulate === 1
    ? `A batch of ${batchSize} is larger than the data: ${images} images. Lower it with --batch-size.`
    : `${accumulate} batches of ${batchSize} are more than the data: ${images} images. Lower accumulate, or --batch-size.`;

/** The encoder's contract, as this recipe fills it. */
const encoderInfo = (recipe: Recipe, recipeName: string): EncoderInfo => {
  const { name, ...options } = recipe.backbone;
  const statistics = viewsOf(recipe)[0]!.normalize ?? statisticsOf(imagenetStatistics, recipe.data.channels);
  return {
    backbone: name,
    options,
    size: recipe.data.size,
    resize: Math.min(recipe.data.shortSide, Math.round(recipe.data.size * 1.14)),
    mean: statistics.mean,
    std: statistics.std,
    method: recipe.method.name,
    recipe: recipeName,
  };
};

/** Scores an encoder: kNN where there are labels, and the collapse panel always. */
async function judge(
  engine: NativeEngine,
  encoder: Uint8Array,
  info: EncoderInfo,
  recipe: Recipe,
  train: Dataset,
  val: Dataset | undefined,
) {
  const p = seenBy(info);
  const { patches, patchScale: scale } = recipe.evaluate;
  const features = (d: Dataset) => featuresOf(engine, encoder, d, p, { patches, scale });
  const own = await features(train);
  const judged = await scored(engine, own, val && (await features(val)), recipe, train, val);
  return { knn: judged, panel: collapsePanel(normalizeRows(own)) };
}

async function scored(
  engine: NativeEngine,
  bank: Features,
  queries: Features | undefined,
  recipe: Recipe,
  train: Dataset,
  val: Dataset | undefined,
) {
  if (!train.labels || !train.classes) return undefined;
  const asked = queries && val?.labels ? { features: queries, labels: val.labels } : undefined;
  const k = Math.min(recipe.evaluate.k, bank.length - (asked ? 0 : 1));
  const options = { k: [k], temperature: recipe.evaluate.temperature, vote: "weighted" as const };
  const labelled = { features: bank, labels: train.labels };
  return (await nearest(engine, labelled, asked, train.classes.length, options))[0]!;
}

/** kNN on the pixels themselves. */
async function pixelScore(
  engine: NativeEngine,
  info: EncoderInfo,
  recipe: Recipe,
  train: Dataset,
  val: Dataset | undefined,
) {
  if (!train.labels) return undefined;
  const p = seenBy(info);
  const rows = (d: Dataset) => pixelFeatures(imageBatches(engine, d, p), d.length, info.mean, info.std);
  return scored(engine, await rows(train), val && (await rows(val)), recipe, train, val);
}

/** Largest number of training images that the judges look at. */
const judgedImages = 10_000;

/** Trains a recipe into a run folder; everything that the folder holds is DESIGN §5. */
export async function pretrain(o: RunOptions): Promise<RunResult> {
  const { recipe, engine, out, listener } = o;
  const say = listener.say;
  // data and step
  const data = (await openData(recipe, "train"))!;
  const val = await openData(recipe, "val");
  const info = encoderInfo(recipe, o.recipeName);
  const views = viewsOf(recipe);
  if (data.length < imagesPerStep(recipe)) throw new Error(tooLarge(recipe, data.length));
  const remark = engine.device === "cpu" && onCpu(recipe.precision);
  const step = stepOf(recipe, engine.dialect, engine.device);

  // folder: made once there is something to train, and to train on
  await mkdir(join(out, "checkpoints"), { recursive: true });
  const log = journal(join(out, "log.txt"));
  const tell = (line: string): void => {
    log.write(line);
    say(line);
  };
  leftOut(recipe).forEach(tell);

  // session
  if (remark) tell(remark);
  if (engine.device === "cuda") for (const node of withoutCudaKernel(valuesOf(step))) tell(runsOnCpu(node));
  const given = o.init ? await initialWeights(o.init, step, methods[recipe.method.name].encoder, tell) : {};
  const artifacts = packageStep(step, initialTensors(step, recipe.seed, given), [engine.name]);
  const { manifest } = artifacts;
  const checkpoints = join(out, "checkpoints");
  const saved = o.resume ? await newestCheckpoint(checkpoints, tell) : undefined;
  if (o.resume && !saved && (await checkpointSteps(checkpoints)).length)
    throw new Error(`None of the checkpoints in ${checkpoints} can be read. Start anew with another --out.`);
  if (!o.resume) await writeRecipe(out, recipe, o.recipeName);
  await writeArtifacts(join(out, "artifacts"), artifacts);
  const session = await engine.trainingSession(artifacts, { tf32: recipe.precision === "tf32" });
  if (saved) {
    checkFits(manifest, saved.tensors, `The checkpoint at step ${saved.progress.step} of ${out}`);
    session.load(saved.tensors);
    tell(`Resuming at step ${saved.progress.step}.`);
    if (saved.progress.threads !== engine.threads)
      tell(
        `Warning: the run used ${saved.progress.threads} threads, this has ${engine.threads}: sums differ in their last bits.`,
      );
  }

  // batches
  const broken = new Set(saved?.progress.broken);
  const judgedTrain = await readableOnly(limited(data, judgedImages), tell);
  const feed = loader(data, {
    batchSize: imagesPerStep(recipe),
    seed: recipe.seed,
    broken,
    onBroken: (key, reason) => tell(`${key} cannot be read and is replaced: ${reason}`),
  });
  const aug = augmenter(engine, (view) => augmentation(view, recipe.pixels));
  const { epoch, batch, inner } = saved?.progress ?? { epoch: 0, batch: 0, inner: 0 };
  const batches = prepared(engine, recipe, views, feed.from(epoch, batch), inner, aug);
  const stepsPerBatch = stepsPerBatchOf(recipe);
  const stepsPerEpoch = feed.batchesPerEpoch * stepsPerBatch;
  const total = stepsPerEpoch * recipe.epochs;

  // books
  const metricsFile = join(out, "metrics.jsonl");
  const startStep = saved?.progress.step ?? 0;
  const books = await reopenBooks(metricsFile, startStep);
  const metrics = journal(metricsFile);
  const progressAt = (s: number): Progress => ({
    step: s,
    epoch: Math.floor(s / stepsPerEpoch),
    batch: Math.floor((s % stepsPerEpoch) / stepsPerBatch),
    inner: s % stepsPerBatch,
    broken: [...broken],
    threads: engine.threads,
  });
  let savedAt = saved ? startStep : -1;
  const save = async (s: number): Promise<void> => {
    if (savedAt === s) return;
    await saveCheckpoint(checkpoints, manifest, session.tensors(), progressAt(s), recipe.checkpoint.keep);
    savedAt = s;
  };
  const encoderBytes = (): Uint8Array => encoderModel(info, encoderTensors(recipe, session.tensors()));
  const evaluate = async (epoch: number): Promise<void> => {
    const score: Score = { epoch, ...(await judge(engine, encoderBytes(), info, recipe, judgedTrain, val)) };
    books.scores.push(score);
    metrics.write(JSON.stringify({ epoch, knn: score.knn, ...score.panel }));
    events.scalars(epoch * stepsPerEpoch, {
      ...(score.knn && { "kNN top1": score.knn.top1 }),
      "feature spread": score.panel.std,
      "effective rank": score.panel.effectiveRank,
    });
    const words = score.knn ? `kNN top1 ${score.knn.top1.toFixed(2)} ± ${score.knn.se.toFixed(2)}, ` : "";
    tell(
      `epoch ${epoch}: ${words}feature spread ${score.panel.std.toFixed(2)}, effective rank ${score.panel.effectiveRank.toFixed(1)}`,
    );
    const warning = collapseWarning(score.panel);
    if (warning && epoch > 0) tell(`Warning: ${warning}`);
  };

  // loop
  const pixels = await pixelScore(engine, info, recipe, judgedTrain, val);
  if (pixels) tell(`raw pixels: kNN top1 ${pixels.top1.toFixed(2)} ± ${pixels.se.toFixed(2)}`);
  books.lives.push(lifeOf(engine, startStep, pixels));
  metrics.write(JSON.stringify({ life: books.lives.at(-1) }));
  const events = eventFile(out, startStep + 1);
  if (startStep === 0) await evaluate(0);
  let [epochLoss, epochSteps] = [0, 0];
  const began = performance.now();
  let waited = 0;
  let reached = startStep;
  const done = await train({
    session,
    batches,
    accumulate: recipe.accumulate,
    scalars: schedulesOf(recipe),
    startStep,
    stepsPerEpoch,
    epochs: recipe.epochs,
    stopping: o.stopping,
    async onStep(r) {
      reached = r.step;
      if (!r.applied) {
        const { lossScale } = r.metrics;
        const but = lossScale === undefined ? "" : ` but the loss scale, which was ${lossScale} and is halved`;
        tell(`Step ${r.step} had a gradient that is not finite; it changed nothing${but}.`);
      }
      epochLoss += r.metrics.loss!;
      epochSteps++;
      waited += r.waitMs;
      const { step: at, epoch, scalars, metrics: measured } = r;
      const timed = { stepMs: +r.stepMs.toFixed(1), waitMs: +r.waitMs.toFixed(1) };
      const row = { step: at, epoch, ...scalars, ...measured, ...timed };
      books.steps.push(row);
      metrics.write(JSON.stringify(row));
      events.scalars(at, { ...scalars, ...measured });
      const elapsed = performance.now() - began;
      listener.step?.({
        ...r,
        total,
        imagesPerSecond: ((r.step - startStep) * imagesPerStep(recipe) * 1000) / (stepsPerBatch * elapsed),
        waitShare: waited / elapsed,
      });
      if (r.step % recipe.checkpoint.everySteps === 0) await save(r.step);
    },
    async onEpoch(epoch, s) {
      log.write(`epoch ${epoch}: mean loss ${(epochLoss / epochSteps).toFixed(4)}`);
      [epochLoss, epochSteps] = [0, 0];
      if (epoch % recipe.evaluate.everyEpochs === 0 || epoch === recipe.epochs) await evaluate(epoch);
      if (s === total) await save(s);
    },
  }).catch(async (error: Error) => {
    // a step that fails, as where a card has no memory left, has changed nothing
    const kept = await save(reached).then(
      () => true,
      () => false, // the device is lost, or the disk full: the checkpoints before it are there
    );
    if (kept) tell(`A checkpoint at step ${reached} is kept; go on with: diptych pretrain --resume --out ${out}`);
    session.release();
    throw error;
  });
  if (done < total) {
    await save(done);
    tell(`Stopped at step ${done} of ${total}; continue with: diptych pretrain --resume --out ${out}`);
  }

  // what remains
  const tensors = session.tensors();
  const encoder = join(out, "encoder.onnx");
  await writeAtomically(encoder, encoderModel(info, encoderTensors(recipe, tensors)));
  await writeAtomically(
    join(out, "encoder.safetensors"),
    writeSafetensors(below(methods[recipe.method.name].encoder, tensors), { format: "pt" }),
  );
  await writeReport(out, { name: o.recipeName, recipe, books }, engine, judgedTrain);
  events.close();
  session.release();
  aug.release();
  await Promise.all([metrics.close(), log.close()]);
  const judged = books.scores.flatMap((s) => s.knn ?? []);
  const [first, last] = [judged[0], judged.at(-1)];
  return {
    run: out,
    encoder,
    engine: engine.name,
    steps: done,
    loss: { first: books.steps[0]?.loss ?? NaN, last: books.steps.at(-1)?.loss ?? NaN },
    knn: first && last && pixels ? { first: first.top1, last: last.top1, pixels: pixels.top1, se: last.se } : null,
  };
}

const encoderTensors = (recipe: Recipe, tensors: Tensors): Tensors =>
  below(methods[recipe.method.name].encoder, tensors);

/**
 * The images of an update → views and draws of each of its batches, all a function of (seed, step), brought to where the step computes.
 * Where the method takes several steps on the same images, their views stay; the first images go on at their step `startInner`.
 */
async function* prepared(
  engine: NativeEngine,
  recipe: Recipe,
  views: readonly ViewSpec[],
  batches: AsyncIterable<{ epoch: number; batch: number; indices: number[]; images: Image[] }>,
  startInner: number,
  aug: Augmenter<Draw>,
): AsyncGenerator<Prepared, never> {
  const { name, ...options } = recipe.method;
  const method = methods[name] as unknown as Method<object>;
  const { seed, batchSize } = recipe;
  const stepsPerBatch = stepsPerBatchOf(recipe);
  let inner = startInner;
  for await (const { epoch, batch, images } of batches) {
    const viewed = async (first: number) => {
      const own = images.slice(first, first + batchSize);
      const shown: Record<string, Draw[][]> = Object.fromEntries(
        views.map((view) => [
          view.name,
          Array.from({ length: view.count }, (_, copy) =>
            own.map((image, k) => draw(random(seed, "augment", epoch, batch, first + k, view.name, copy), image, view)),
          ),
        ]),
      );
      const there = await aug.batch(own, views, (view, copy, k) => shown[view.name]![copy]![k]!);
      return { shown, there };
    };
    const kept = new Map<number, Awaited<ReturnType<typeof viewed>>>();
    for (; inner < stepsPerBatch; inner++)
      for (let first = 0; first < images.length; first += batchSize) {
        const { shown, there } = kept.get(first) ?? (await viewed(first));
        if (stepsPerBatch > 1) kept.set(first, { shown, there });
        const at = { inner, views: shown };
        const drawn = method.draw?.(random(seed, "draw", epoch, batch, first), options, batchSize, at);
        const own = await engine.upload(drawn ?? {});
        const spent: Residents = inner === stepsPerBatch - 1 ? { ...there, ...own } : own;
        yield { epoch, batch, inner, inputs: { ...there, ...own }, release: () => releaseAll(spent) };
      }
    inner = 0;
  }
  throw new Error("The batches ended.");
}

export type { Manifest, TrainingSession };
