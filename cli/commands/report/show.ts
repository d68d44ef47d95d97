import { Args } from "@oclif/core";
import { Base, engineFlags } from "../../base.js";

export default class Show extends Base {
  static override description = "Writes a run's report.html anew from what lies in its folder, and prints its path.";
  static override examples = ["<%= config.bin %> report show runs/sample-1"];
  static override args = { run: Args.string({ required: true, description: "folder of a run" }) };
  static override flags = engineFlags;

  async run() {
    const { args, flags } = await this.parse(Show);
    const { engineFor } = await import("../../engine.js");
    const { reportAgain } = await import("../../report/index.js");
    const report = await reportAgain(args.run, await engineFor(flags, this.say), this.say);
    this.log(report);
    return { report };
  }
}
