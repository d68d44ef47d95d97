/** Queues as the engine keeps them. */
import { setRows } from "../../src/engines/native/memory.js";
import { ringRow } from "../../src/engines/native/stateful.js";
import type { Tensor } from "../../src/tensor.js";

/** Writes the rows of a step into a queue, as a ring. */
export const enqueue = (queue: Tensor, rows: Tensor, step: number): void =>
  setRows(queue, rows, ringRow(step, rows.shape[0]!, queue.shape[0]!));
