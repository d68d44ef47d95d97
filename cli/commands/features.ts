import { Args, Flags } from "@oclif/core";
import { Base, encoderArg, encoderFlags, engineFlags } from "../base.js";

export default class Features extends Base {
  static override description =
    "Shows what an encoder sees in photographs: the three principal components of its dense maps as red, green and blue.";
  static override examples = ["<%= config.bin %> features runs/densecl-1/encoder.onnx a.jpg b.jpg --out features.png"];
  static override strict = false;
  static override args = {
    encoder: encoderArg,
    image: Args.string({
      required: true,
      description: "a photograph, and more of them: the colours are common to all",
    }),
  };
  static override flags = {
    ...engineFlags,
    ...encoderFlags,
    side: Flags.integer({ min: 32, description: "pixels of the long side; default 224 or the trained size" }),
    out: Flags.string({ default: "features.png", description: "the PNG to write" }),
  };

  async run() {
    const { args, argv, flags } = await this.parse(Features);
    const { engineFor } = await import("../engine.js");
    const { features } = await import("../inference/look.js");
    const { encoderAt, usualSide } = await import("../inference/source.js");
    const engine = await engineFor(flags, this.say);
    const encoder = await encoderAt(args.encoder, flags);
    const side = flags.side ?? usualSide(encoder);
    const images = await features(engine, encoder, argv.slice(1).map(String), { side, out: flags.out });
    for (const { image, map } of images) this.log(`${image}: map ${map.join(" × ")}`);
    this.log(flags.out);
    return { out: flags.out, images };
  }
}
