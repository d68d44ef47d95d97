import { Args } from "@oclif/core";
import { Base, counter } from "../../base.js";

export default class Inspect extends Base {
  static override description =
    "Says what is in a folder of images: splits, classes, formats, sizes, copies, and what cannot be read.";
  static override examples = ["<%= config.bin %> data inspect photos/"];
  static override args = { folder: Args.string({ required: true, description: "folder of images" }) };

  async run() {
    const { args } = await this.parse(Inspect);
    const { inspect } = await import("../../../src/data/inspect.js");
    const found = await inspect(args.folder, counter("images"));
    const some = (files: readonly string[]): string =>
      `${files.length} (${files.slice(0, 3).join(", ")}${files.length > 3 ? ", …" : ""})`;
    const counts = (record: Record<string, number>): string =>
      Object.entries(record)
        .map(([name, n]) => `${name} ${n}`)
        .join(", ");
    const { least, median, most } = found.shortSide;
    this.log(`${found.root}: ${found.images} images, ${found.others} other files`);
    for (const [name, { images, classes }] of Object.entries(found.splits))
      this.log(
        `  ${name}: ${images} images, ${classes ? `${Object.keys(classes).length} classes: ${counts(classes)}` : "no labels"}`,
      );
    if (found.unused.length) this.log(`  beside the splits, read by no run: ${found.unused.join(", ")}`);
    this.log(`  formats: ${counts(found.formats)}`);
    this.log(`  short side: ${least} to ${most} px, median ${median}`);
    for (const [kind, files] of Object.entries(found.odd)) this.log(`  ${kind}: ${some(files)}`);
    if (found.duplicates.length) {
      this.log(
        `  equal bytes: ${found.duplicates.length} groups, ${found.duplicatesAcrossSplits} of them across splits`,
      );
      for (const same of found.duplicates.slice(0, 5)) this.log(`    ${same.join(" = ")}`);
    }
    if (found.unreadable.length)
      this.log(`  unreadable: ${some(found.unreadable.map((u) => u.file))}; data check lists them`);
    return found;
  }
}
