import { Args, Flags } from "@oclif/core";
import { Base, encoderArg, encoderFlags, engineFlags } from "../base.js";

export default class Embed extends Base {
  static override description =
    "Writes the features of every image in a folder as .npy (names beside it), .csv, .jsonl or .parquet. Stopped, it goes on where it was.";
  static override examples = [
    "<%= config.bin %> embed runs/sample-1/encoder.onnx photos/ --out features.npy",
    "<%= config.bin %> embed runs/sample-1/encoder.onnx photos/ --dense --out maps.npy",
  ];
  static override args = {
    encoder: encoderArg,
    images: Args.string({ required: true, description: "folder of images" }),
  };
  static override flags = {
    ...engineFlags,
    ...encoderFlags,
    out: Flags.string({ required: true, description: "the file: .npy, .csv, .jsonl or .parquet" }),
    dense: Flags.boolean({ description: "maps [D,h,w] instead of features [D]; .npy" }),
  };

  async run() {
    const { args, flags } = await this.parse(Embed);
    const { engineFor } = await import("../engine.js");
    const { embed } = await import("../inference/embed.js");
    const { encoderAt, imagesIn } = await import("../inference/source.js");
    const engine = await engineFor(flags, this.say);
    const encoder = await encoderAt(args.encoder, flags);
    const count = this.counter("images");
    const result = await embed(engine, encoder.bytes, await imagesIn(args.images, encoder), {
      out: flags.out,
      dense: flags.dense,
      preprocessing: encoder.preprocessing,
      say: this.say,
      progress: count.show,
    });
    this.say(`${count.perSecond().toFixed(0)} images a second`);
    const left = result.broken.length ? `, ${result.broken.length} left out that cannot be read` : "";
    this.log(`${result.out}: ${result.images} × ${result.shape.join(" × ")}${left}`);
    return result;
  }
}
