import assert from "node:assert/strict";
import type { TrainingSession } from "../src/engines/index.js";
import { train, type Prepared } from "../src/train.js";

describe("the loop", () => {
  /** Ten steps of two batches each, on a session that says `applied` at every second one, until `end`: how often each batch was released. */
  async function releases(end: {
    stopAt?: number;
    failAt?: number;
    batches?: number;
  }): Promise<{ counts: number[]; error?: string }> {
    const counts: number[] = [];
    async function* batches(): AsyncGenerator<Prepared, void> {
      for (let batch = 0; batch < (end.batches ?? Infinity); batch++) {
        counts[batch] = 0;
        yield { epoch: 0, batch, inner: 0, inputs: {}, release: () => counts[batch]!++ };
        await Promise.resolve();
      }
    }
    let ran = 0;
    const session = {
      step: () =>
        ran++ === end.failAt
          ? Promise.reject(new Error("no memory"))
          : Promise.resolve(ran % 2 ? {} : { applied: true }),
      metrics: () => ({ loss: 0 }),
    } as unknown as TrainingSession;
    let steps = 0;
    const error = await train({
      session,
      batches: batches(),
      accumulate: 2,
      scalars: {},
      startStep: 0,
      stepsPerEpoch: 10,
      epochs: 1,
      onStep: () => void steps++,
      stopping: () => steps === end.stopAt,
    }).then(
      () => undefined,
      (e: Error) => e.message,
    );
    return { counts, error };
  }

  it("lets go of each batch once it is stepped on", async () => {
    assert.deepEqual(await releases({}), { counts: Array<number>(20).fill(1), error: undefined });
  });
  it("lets go of the batch that was prepared ahead where it is stopped, or a step fails", async () => {
    assert.deepEqual(await releases({ stopAt: 3 }), { counts: Array<number>(7).fill(1), error: undefined });
    assert.deepEqual(await releases({ failAt: 3 }), { counts: Array<number>(5).fill(1), error: "no memory" });
  });
  it("stops in peace where no batch comes after the last", async () => {
    assert.deepEqual(await releases({ stopAt: 3, batches: 6 }), { counts: Array<number>(6).fill(1), error: undefined });
  });
});
