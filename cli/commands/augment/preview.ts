import { Args, Flags } from "@oclif/core";
import { Base, engineFlags } from "../../base.js";

export default class Preview extends Base {
  static override description = "Shows what a recipe does to a picture: the picture and draws of its views, as a PNG.";
  static override examples = ["<%= config.bin %> augment preview photos cat.jpg --out grid.png"];
  static override args = {
    recipe: Args.string({ required: true, description: "a recipe's name or a JSON file" }),
    image: Args.string({ required: true, description: "a picture" }),
  };
  static override flags = {
    ...engineFlags,
    out: Flags.string({ required: true, description: "the PNG to write" }),
    count: Flags.integer({ min: 1, default: 15, description: "draws of each view" }),
    seed: Flags.integer({ min: 0, default: 0, description: "which draws" }),
  };

  async run() {
    const { args, flags } = await this.parse(Preview);
    const { engineFor } = await import("../../engine.js");
    const { preview } = await import("../../preview.js");
    await preview(await engineFor(flags, this.say), args.recipe, args.image, flags);
    this.log(flags.out);
    return { out: flags.out };
  }
}
