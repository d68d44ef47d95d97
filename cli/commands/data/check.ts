import { Args } from "@oclif/core";
import { Base, counter } from "../../base.js";

export default class Check extends Base {
  static override description =
    "Decodes every image of a folder; lists those that cannot be read, and fails if there are any.";
  static override examples = ["<%= config.bin %> data check photos/"];
  static override args = { folder: Args.string({ required: true, description: "folder of images" }) };

  async run() {
    const { args } = await this.parse(Check);
    const { inspect } = await import("../../../src/data/inspect.js");
    const { images, unreadable } = await inspect(args.folder, counter("images"));
    for (const { file, reason } of unreadable) this.log(`${file}: ${reason}`);
    this.say(`${images - unreadable.length} of ${images} images can be read.`);
    if (unreadable.length) process.exitCode = 1;
    return { images, unreadable };
  }
}
