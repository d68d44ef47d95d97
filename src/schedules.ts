/** Schedules: plain functions of the step (0-based), in steps. Whatever is scheduled enters the graph as a scalar. */

/** What a recipe says of a scheduled number; durations in epochs. A bare number is constant. */
export type Schedule =
  | number
  | {
      schedule: "cosine";
      peak: number;
      /** Value at the end, default 0. */
      end?: number;
      /** Linear warm-up, default none. */
      warmupEpochs?: number;
      /** Warm-up starts here, default 0. */
      warmupStart?: number;
      /** step (default): changes at each step; epoch: once an epoch, as mmcv's by_epoch. */
      per?: "step" | "epoch";
      /** What the cosine spans: what is left after the warm-up (default), or the whole run, with the smaller of ramp and cosine (APS). */
      over?: "rest" | "whole";
      /** The first warm-up step gives peak/W (plusOne, default) or 0. */
      warmup?: "plusOne" | "fromZero";
    }
  | {
      schedule: "step";
      peak: number;
      /** Multiplied by gamma (default 0.1) at each of these epochs. */
      milestones: readonly number[];
      gamma?: number;
      warmupEpochs?: number;
    }
  | {
      /** 0 until startStep, `value` from there on: the warm-up of DenseCL's λ. */
      schedule: "delayed";
      value: number;
      startStep: number;
    };

export interface Horizon {
  /** Updates in an epoch: batches times the steps taken on each. */
  stepsPerEpoch: number;
  epochs: number;
}

/** start + (end − start)·(1 − cos πt)/2 for t in 0–1 */
export const cosine = (start: number, end: number, t: number): number =>
  end + (start - end) * 0.5 * (1 + Math.cos(Math.PI * t));

/** The value at a step. */
export function scheduled(schedule: Schedule, step: number, { stepsPerEpoch, epochs }: Horizon): number {
  if (typeof schedule === "number") return schedule;
  if (schedule.schedule === "delayed") return step < schedule.startStep ? 0 : schedule.value;
  const warm = Math.round((schedule.warmupEpochs ?? 0) * stepsPerEpoch);
  const total = epochs * stepsPerEpoch;
  switch (schedule.schedule) {
    case "cosine": {
      const { peak, end = 0, warmupStart = 0, per = "step", warmup = "plusOne", over = "rest" } = schedule;
      const at = per === "epoch" ? Math.floor(step / stepsPerEpoch) * stepsPerEpoch : step;
      // one unit of the warm-up: a step, or the steps of an epoch
      const unit = warmup === "fromZero" ? 0 : per === "epoch" ? stepsPerEpoch : 1;
      const ramp = at < warm ? warmupStart + ((peak - warmupStart) * (at + unit)) / warm : Infinity;
      if (over === "whole") return Math.min(ramp, cosine(peak, end, Math.min(1, at / total)));
      return at < warm ? ramp : cosine(peak, end, Math.min(1, (at - warm) / Math.max(1, total - warm)));
    }
    case "step": {
      const { peak, milestones, gamma = 0.1 } = schedule;
      if (step < warm) return (peak * (step + 1)) / warm;
      const epoch = Math.floor(step / stepsPerEpoch);
      return peak * gamma ** milestones.filter((m) => epoch >= m).length;
    }
    default:
      return schedule satisfies never;
  }
}
