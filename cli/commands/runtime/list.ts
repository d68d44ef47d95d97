import { Base } from "../../base.js";

export default class List extends Base {
  static override description = "Lists the onnxruntime libraries at hand, without fetching any.";
  static override examples = ["<%= config.bin %> runtime list"];

  async run() {
    await this.parse(List);
    const { installedRuntimes } = await import("../../../src/runtimes.js");
    const runtimes = installedRuntimes();
    for (const r of runtimes) this.log(`${r.kind.padEnd(9)} ${r.device.padEnd(5)} ${r.version.padEnd(14)} ${r.path}`);
    if (!runtimes.some((r) => r.kind === "training"))
      this.say("The training library is not installed: diptych runtime install");
    return { runtimes };
  }
}
