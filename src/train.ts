/** The loop: batches in, steps, hooks at steps and epochs. It knows no method and no evaluator. */
import type { Feeds, TrainingSession } from "./engines/index.js";
import { scheduled, type Horizon, type Schedule } from "./schedules.js";

/** A batch that is ready for the step: one of those that make an update. */
export interface Prepared {
  epoch: number;
  batch: number;
  /** Step on this batch, from 0: a method may take several. */
  inner: number;
  inputs: Feeds;
  /** Called when the step is done with the inputs, or will not see them. */
  release?: () => void;
}

export interface StepReport {
  /** Steps done, this one included. */
  step: number;
  epoch: number;
  batch: number;
  inner: number;
  scalars: Record<string, number>;
  metrics: Record<string, number>;
  applied: boolean;
  /** Milliseconds of the step, and of waiting for its batches. */
  stepMs: number;
  waitMs: number;
}

export interface TrainOptions extends Horizon {
  session: TrainingSession;
  /** One a step, from `startStep` on. */
  batches: AsyncIterator<Prepared>;
  /** Batches that make one update, default 1: what the session's step accumulates. */
  accumulate?: number;
  /** lr and the method's own, by name. */
  scalars: Record<string, Schedule>;
  startStep: number;
  /** After each step, before the next begins. */
  onStep?: (report: StepReport) => Promise<void> | void;
  /** After the last step of each epoch; epochs count from 1 here. */
  onEpoch?: (epochsDone: number, step: number) => Promise<void> | void;
  /** Checked between steps: true ends the loop. */
  stopping?: () => boolean;
  /** Consecutive non-finite steps after which training is given up; default 10. */
  patience?: number;
}

/** Trains to the horizon, or until told to stop; returns the steps done. */
export async function train(o: TrainOptions): Promise<number> {
  const total = o.epochs * o.stepsPerEpoch;
  let refused = 0;
  let step = o.startStep;
  let toFetch = (total - step) * (o.accumulate ?? 1);
  const fetched = (): Promise<IteratorResult<Prepared>> | undefined => {
    const next = toFetch-- > 0 ? o.batches.next() : undefined;
    next?.catch(() => undefined);
    return next;
  };
  let upcoming = fetched();
  try {
    while (step < total && !o.stopping?.()) {
      const scalars = Object.fromEntries(Object.entries(o.scalars).map(([name, s]) => [name, scheduled(s, step, o)]));
      let [batch, applied]: [Prepared?, boolean?] = [];
      let [stepMs, waitMs] = [0, 0];
      while (applied === undefined) {
        // the next batch is prepared while this one runs
        const waiting = performance.now();
        batch = ((await upcoming) as { value: Prepared }).value;
        const started = performance.now();
        upcoming = fetched();
        ({ applied } = await o.session.step(batch.inputs, scalars).finally(batch.release));
        waitMs += started - waiting;
        stepMs += performance.now() - started;
      }
      step++;

      refused = applied ? 0 : refused + 1;
      if (refused > (o.patience ?? 10))
        throw new Error(
          `${refused} steps in a row had a gradient that is not finite (the last at step ${step}). Lower the learning rate, or clip with optimizer.clipNorm.`,
        );
      const { epoch, batch: index, inner } = batch!;
      await o.onStep?.({
        step,
        epoch,
        batch: index,
        inner,
        scalars,
        metrics: o.session.metrics(),
        applied,
        stepMs,
        waitMs,
      });
      if (step % o.stepsPerEpoch === 0) await o.onEpoch?.(step / o.stepsPerEpoch, step);
    }
  } finally {
    // a batch that nobody needs any more: what it holds is let go before the caller lets go of the engine
    await upcoming?.then(
      ({ value }) => (value as Prepared | undefined)?.release?.(),
      () => undefined,
    );
  }
  return step;
}
