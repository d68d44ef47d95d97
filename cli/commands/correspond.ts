import { Args, Flags } from "@oclif/core";
import { Base, encoderArg, encoderFlags, engineFlags } from "../base.js";

export default class Correspond extends Base {
  static override description =
    "Draws which places of two photographs an encoder finds alike: mutual nearest neighbours of their dense maps.";
  static override examples = ["<%= config.bin %> correspond runs/densecl-1/encoder.onnx a.jpg b.jpg --out matches.png"];
  static override args = {
    encoder: encoderArg,
    a: Args.string({ required: true, description: "a photograph" }),
    b: Args.string({ required: true, description: "another" }),
  };
  static override flags = {
    ...engineFlags,
    ...encoderFlags,
    side: Flags.integer({ min: 32, description: "pixels of the long side; default 224 or the trained size" }),
    count: Flags.integer({ min: 1, default: 24, description: "matches drawn at most" }),
    out: Flags.string({ default: "matches.png", description: "the PNG to write" }),
  };

  async run() {
    const { args, flags } = await this.parse(Correspond);
    const { engineFor } = await import("../engine.js");
    const { correspond } = await import("../inference/look.js");
    const { encoderAt, sideOf } = await import("../inference/source.js");
    const engine = await engineFor(flags, this.say);
    const encoder = await encoderAt(args.encoder, flags);
    const side = sideOf(encoder, flags.side);
    const result = await correspond(engine, encoder, [args.a, args.b], { side, count: flags.count, out: flags.out });
    this.log(`${flags.out}: ${result.drawn.length} of ${result.mutual} mutual matches`);
    return { out: flags.out, ...result };
  }
}
