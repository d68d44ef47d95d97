import { Args, Flags } from "@oclif/core";
import { Base, engineFlags } from "../../base.js";

export default class Knn extends Base {
  static override description = "Weighted k-nearest neighbours on the frozen features of any encoder.onnx.";
  static override examples = ["<%= config.bin %> evaluate knn runs/sample-1/encoder.onnx --data samples"];
  static override args = {
    encoder: Args.string({ required: true, description: "an ONNX model with one image input" }),
  };
  static override flags = {
    ...engineFlags,
    data: Flags.string({
      required: true,
      description: "DIR with class folders; DIR/train and DIR/val are bank and queries, else leave-one-out",
    }),
    k: Flags.integer({ min: 1, default: 20, description: "neighbours that vote" }),
    temperature: Flags.string({ default: "0.07", description: "of the votes exp(similarity/T)" }),
    size: Flags.integer({ min: 1, description: "pixels a side, for a foreign encoder" }),
    mean: Flags.string({ description: "r,g,b in 0–1, for a foreign encoder that does not normalise" }),
    std: Flags.string({ description: "r,g,b in 0–1" }),
  };

  async run() {
    const { args, flags } = await this.parse(Knn);
    const { engineFor } = await import("../../engine.js");
    const { judgeKnn } = await import("../../judge.js");
    const result = await judgeKnn(await engineFor(flags, this.say), args.encoder, flags);
    this.log(
      `${result.images} images, ${result.classes} classes, ${result.protocol}, k = ${flags.k}, T = ${flags.temperature}`,
    );
    this.log(`features    top1 ${result.top1.toFixed(2)} ± ${result.se.toFixed(2)}   top5 ${result.top5.toFixed(2)}`);
    this.log(`raw pixels  top1 ${result.pixelsTop1.toFixed(2)}`);
    return result;
  }
}
