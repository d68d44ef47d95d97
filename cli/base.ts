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
