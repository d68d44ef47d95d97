/** What every command shares: --json, and results on stdout with everything else on stderr. */
import { Args, Command, Flags } from "@oclif/core";

export abstract class Base extends Command {
  static override enableJsonFlag = true;

  /** A line for people, on stderr. */
  protected say = (line: string): void => {
    process.stderr.write(`${line}\n`);
  };

  /** A count that rewrites its line on a terminal, and what it comes to. */
  protected counter(what: string) {
    const began = performance.now();
    let seen = 0;
    const perSecond = (): number => (1000 * seen) / (performance.now() - began);
    const show = (done: number, total: number): void => {
      seen = done;
      if (process.stderr.isTTY)
        process.stderr.write(
          `\r${done}/${total} ${what}, ${perSecond().toFixed(0)} a second${done === total ? "\n" : ""}`,
        );
    };
    return { show, perSecond };
  }
}

/** The encoder that a command looks through. */
export const encoderArg = Args.string({ required: true, description: "an ONNX model with one image input" });

export const encoderFlags = {
  size: Flags.integer({ min: 1, description: "pixels a side, for a foreign encoder" }),
  mean: Flags.string({ description: "r,g,b in 0–1, for a foreign encoder that does not normalise" }),
  std: Flags.string({ description: "r,g,b in 0–1" }),
};

export const engineFlags = {
  engine: Flags.string({
    options: ["auto", "training", "portable"],
    default: "auto",
    description: "training: OrtTrainingApi; portable: any ONNX Runtime",
  }),
  device: Flags.string({
    options: ["auto", "cpu", "cuda"],
    default: "auto",
    description: "where the step runs; auto: the card where runtime install --cuda has been run and nothing is missing",
  }),
  "device-id": Flags.integer({ min: 0, default: 0, description: "which card" }),
  "cuda-libraries": Flags.string({
    description: "folders with the CUDA 13 and cuDNN 9 libraries, where the usual places do not hold them",
  }),
  library: Flags.string({ description: "an onnxruntime library, or the jar that holds one" }),
  threads: Flags.integer({ min: 1, description: "threads of the step; default all cores" }),
};
