import { Args, Flags } from "@oclif/core";
import { Base } from "../../base.js";

export default class Compare extends Base {
  static override description = "Sets runs side by side: one table, and a page with their curves over one another.";
  static override examples = ["<%= config.bin %> report compare runs/sample-1 runs/sample-2 --out compare.html"];
  static override strict = false;
  static override args = { run: Args.string({ required: true, description: "folders of runs" }) };
  static override flags = { out: Flags.string({ description: "the page to write; default none" }) };

  async run() {
    const { argv, flags } = await this.parse(Compare);
    const { basename } = await import("node:path");
    const { compared, comparedColumns, comparison, runIn } = await import("../../report/index.js");
    const { writeAtomically } = await import("../../folder.js");
    const runs = await Promise.all(
      (argv as string[]).map(async (folder) => ({ ...(await runIn(folder)), name: basename(folder) })),
    );
    const rows = [comparedColumns, ...runs.map(compared)];
    const widths = comparedColumns.map((_, c) => Math.max(...rows.map((r) => r[c]!.length)));
    for (const row of rows)
      this.log(
        row
          .map((cell, c) => cell.padEnd(widths[c]!))
          .join("  ")
          .trimEnd(),
      );
    if (flags.out) await writeAtomically(flags.out, comparison(runs));
    return rows.slice(1).map((row) => Object.fromEntries(row.map((cell, c) => [comparedColumns[c]!, cell])));
  }
}
