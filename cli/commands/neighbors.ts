import { Args, Flags } from "@oclif/core";
import { Base, encoderArg, encoderFlags, engineFlags } from "../base.js";

export default class Neighbors extends Base {
  static override description =
    "Shows the nearest images of a folder to a photograph, or to some of its own, as a contact sheet (PNG) or a page (HTML).";
  static override examples = [
    "<%= config.bin %> neighbors runs/sample-1/encoder.onnx samples --out neighbors.png",
    "<%= config.bin %> neighbors runs/sample-1/encoder.onnx photos/ --query cat.jpg --out neighbors.html",
  ];
  static override args = {
    encoder: encoderArg,
    images: Args.string({ required: true, description: "folder of images" }),
  };
  static override flags = {
    ...engineFlags,
    ...encoderFlags,
    query: Flags.string({ description: "a photograph; default some of the folder" }),
    count: Flags.integer({ min: 1, default: 6, description: "how many of the folder are asked for, without --query" }),
    k: Flags.integer({ min: 1, default: 7, description: "neighbours of each" }),
    seed: Flags.integer({ min: 0, default: 0, description: "which of the folder" }),
    out: Flags.string({ default: "neighbors.png", description: "the picture to write: .png or .html" }),
  };

  async run() {
    const { args, flags } = await this.parse(Neighbors);
    const { engineFor } = await import("../engine.js");
    const { neighbors } = await import("../inference/look.js");
    const { encoderAt, readable } = await import("../inference/source.js");
    const engine = await engineFor(flags, this.say);
    const encoder = await encoderAt(args.encoder, flags);
    const progress = this.counter("images").show;
    const images = (await readable(args.images, "train", {
      channels: encoder.preprocessing.channels,
      cache: false,
      say: this.say,
    }))!;
    const rows = await neighbors(engine, encoder, images, { ...flags, progress });
    for (const { query, neighbors: found } of rows)
      this.log(`${query}: ${found.map((f) => `${f.path} ${f.similarity.toFixed(3)}`).join(", ")}`);
    this.log(flags.out);
    return { out: flags.out, rows };
  }
}
