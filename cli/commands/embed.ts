import { Args, Flags } from "@oclif/core";
import { Base, counter, engineFlags } from "../base.js";

export default class Embed extends Base {
  static override description =
    "Writes the features of every image in a folder as float32 [N, D] in NumPy's format, names beside it.";
  static override examples = ["<%= config.bin %> embed runs/sample-1/encoder.onnx photos/ --out features.npy"];
  static override args = {
    encoder: Args.string({ required: true, description: "an ONNX model with one image input" }),
    images: Args.string({ required: true, description: "folder of images" }),
  };
  static override flags = {
    ...engineFlags,
    out: Flags.string({ required: true, description: "the .npy file" }),
    size: Flags.integer({ min: 1, description: "pixels a side, for a foreign encoder" }),
    mean: Flags.string({ description: "r,g,b in 0–1, for a foreign encoder that does not normalise" }),
    std: Flags.string({ description: "r,g,b in 0–1" }),
  };

  async run() {
    const { args, flags } = await this.parse(Embed);
    const { engineFor } = await import("../engine.js");
    const { embed } = await import("../judge.js");
    const engine = await engineFor(flags, this.say);
    const result = await embed(engine, args.encoder, args.images, flags.out, flags, counter("images"));
    this.log(`${result.out}: ${result.images} × ${result.width}`);
    return result;
  }
}
