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
      /** How far the t-th of W warm-up steps is to the peak: (t+1)/W (plusOne, default), t/W (fromZero) or t/(W−1) (toPeak, solo-learn). */
      warmup?: "plusOne" | "fromZero" | "toPeak";
      /** The cosine is counted from the end of the warm-up (warmup, default), or from step 0, which warm-up only hides (start, timm). */
      from?: "warmup" | "start";
      /** The warm-up never exceeds the cosine: the smaller of the two counts (APS). */
      capped?: boolean;
      /** The end is reached by the step after the last (after, default: torch, MoCo) or by the last itself (last, lightly). */
      reached?: "after" | "last";
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
      /** end + (peak − end)·(1 − t)^power over the t-th part of the steps: mmcv's poly, by iteration. */
      schedule: "poly";
      peak: number;
      /** Value at the end, default 0. */
      end?: number;
      /** Default 0.9. */
      power?: number;
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

/** Share of the way to the peak at step t of W. */
const warmedUp = {
  plusOne: (t: number, w: number) => (t + 1) / w,
  fromZero: (t: number, w: number) => t / w,
  toPeak: (t: number, w: number) => t / Math.max(1, w - 1),
};

/** The value at a step. */
export function scheduled(schedule: Schedule, step: number, { stepsPerEpoch, epochs }: Horizon): number {
  if (typeof schedule === "number") return schedule;
  const total = epochs * stepsPerEpoch;
  if (schedule.schedule === "delayed") return step < schedule.startStep ? 0 : schedule.value;
  if (schedule.schedule === "poly") {
    const { peak, end = 0, power = 0.9 } = schedule;
    return end + (peak - end) * (1 - step / total) ** power;
  }
  const warm = Math.round((schedule.warmupEpochs ?? 0) * stepsPerEpoch);
  switch (schedule.schedule) {
    case "cosine": {
      const { peak, end = 0, warmupStart = 0, per = "step", warmup = "plusOne" } = schedule;
      const at = per === "epoch" ? Math.floor(step / stepsPerEpoch) * stepsPerEpoch : step;
      // warm-up is counted in what the schedule changes by
      const unit = per === "epoch" ? stepsPerEpoch : 1;
      const ramp = warmupStart + (peak - warmupStart) * warmedUp[warmup](at / unit, warm / unit);
      const first = schedule.from === "start" ? 0 : warm;
      const last = schedule.reached === "last" ? total - 1 : total;
      const falling = cosine(peak, end, Math.min(1, (at - first) / Math.max(1, last - first)));
      if (at >= warm) return falling;
      return schedule.capped ? Math.min(ramp, falling) : ramp;
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
