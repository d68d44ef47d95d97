import { Args, Flags } from "@oclif/core";
import { channelCounts, type Channels } from "../../../src/views.js";
import { Base } from "../../base.js";

export default class Pack extends Base {
  static override description =
    "Decodes and shrinks a folder of images into one safetensors file, which --data takes in its place and reads without decoding.";
  static override examples = [
    "<%= config.bin %> data pack photos/ --out photos.safetensors",
    "<%= config.bin %> pretrain --data photos.safetensors",
  ];
  static override args = { folder: Args.string({ required: true, description: "folder of images" }) };
  static override flags = {
    out: Flags.string({ required: true, description: "the file to write" }),
    "short-side": Flags.integer({ min: 1, default: 256, description: "images are shrunk to this short side at most" }),
    channels: Flags.option({
      options: channelCounts.map(String),
      default: "3",
      description: "1: grey, 3: RGB, 4: with alpha",
    })(),
  };

  async run() {
    const { args, flags } = await this.parse(Pack);
    const { openStore } = await import("../../../src/data/imageFolder.js");
    const { pack } = await import("../../../src/data/packed.js");
    const { images, bytes } = await pack(await openStore(args.folder), flags.out, {
      shortSide: flags["short-side"],
      channels: Number(flags.channels) as Channels,
      onBroken: (path, reason) => this.say(`${path} cannot be read and is left out: ${reason}`),
      progress: this.counter("images").show,
    });
    this.log(`${flags.out}: ${images} images, ${(bytes / 1e6).toFixed(1)} MB`);
    return { out: flags.out, images, bytes };
  }
}
