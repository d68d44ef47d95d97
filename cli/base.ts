/** What every command shares: --json, and results on stdout with everything else on stderr. */
import { Command, Flags } from "@oclif/core";

export abstract class Base extends Command {
  static override enableJsonFlag = true;

  /** A line for people, on stderr. */
  protected say = (line: string): void => {
    process.stderr.write(`${line}\n`);
  };
}

export const engineFlags = {
  engine: Flags.string({
    options: ["auto", "training", "portable"],
    default: "auto",
    description: "training: OrtTrainingApi; portable: any ONNX Runtime",
  }),
  device: Flags.string({ options: ["auto", "cpu", "cuda"], default: "auto", description: "where the step runs" }),
  library: Flags.string({ description: "an onnxruntime library, or the jar that holds one" }),
  threads: Flags.integer({ min: 1, description: "threads of the step; default all cores" }),
};

/** A count that rewrites its line on a terminal, and says nothing elsewhere. */
export const counter = (what: string) => {
  const began = performance.now();
  return (done: number, total: number): void => {
    if (!process.stderr.isTTY) return;
    const speed = (1000 * done) / (performance.now() - began);
    process.stderr.write(`\r${done}/${total} ${what}, ${speed.toFixed(0)} a second${done === total ? "\n" : ""}`);
  };
};
