import { Args, Flags } from "@oclif/core";
import { Base } from "../../base.js";

export default class Fetch extends Base {
  static override description = "Fetches a public data set once: cifar10.";
  static override examples = ["<%= config.bin %> data fetch cifar10"];
  static override args = { name: Args.string({ required: true, options: ["cifar10"], description: "which" }) };
  static override flags = { out: Flags.string({ description: "folder; default the user's cache" }) };

  async run() {
    const { flags } = await this.parse(Fetch);
    const { fetchCifar10 } = await import("../../../src/data/cifar10.js");
    const folder = await fetchCifar10(flags.out, this.say);
    this.log(folder);
    return { folder };
  }
}
