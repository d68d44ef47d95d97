import { Args, Flags } from "@oclif/core";
import { Base, encoderArg, encoderFlags, engineFlags } from "../base.js";

export default class Features extends Base {
  static override description =
    "Shows what an encoder sees in photographs: the three principal components of its dense maps as red, green and blue, or a ViT's attention.";
  static override examples = [
    "<%= config.bin %> features runs/densecl-1/encoder.onnx a.jpg b.jpg --out features.png",
    "<%= config.bin %> features runs/aps-1/encoder.onnx a.jpg --attention --out attention.png",
  ];
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
    attention: Flags.boolean({
      description: "what the class token attends to in the last block, head by head; of our own ViTs",
    }),
    out: Flags.string({ default: "features.png", description: "the PNG to write" }),
  };

  async run() {
    const { args, argv, flags } = await this.parse(Features);
    const { engineFor } = await import("../engine.js");
    const { attention, features } = await import("../inference/look.js");
    const { encoderAt, sideOf } = await import("../inference/source.js");
    const engine = await engineFor(flags, this.say);
    const encoder = await encoderAt(args.encoder, flags);
    const side = sideOf(encoder, flags.side);
    const look = flags.attention ? attention : features;
    const images = await look(engine, encoder, argv.slice(1).map(String), { side, out: flags.out });
    for (const { image, map } of images) this.log(`${image}: map ${map.join(" × ")}`);
    this.log(flags.out);
    return { out: flags.out, images };
  }
}
