/** Files that grow line by line while a run goes. */
import { createWriteStream } from "node:fs";
import { whyUnwritten } from "../src/checkpoints.js";

export interface Journal {
  /** Appends a line; throws where an earlier one could not be written. */
  write(line: string): void;
  close(): Promise<void>;
}

export function journal(file: string): Journal {
  const stream = createWriteStream(file, { flags: "a" });
  let failure: Error | undefined;
  stream.on("error", (e) => (failure = new Error(`${file} could not be written: ${whyUnwritten(e)}.`, { cause: e })));
  return {
    write(line) {
      if (failure) throw failure;
      stream.write(`${line}\n`);
    },
    close: () =>
      new Promise((done, fail) => {
        if (failure) return fail(failure);
        stream.once("error", () => fail(failure!));
        stream.end(() => done());
      }),
  };
}
