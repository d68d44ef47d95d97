import { Flags } from "@oclif/core";
import { Base } from "../base.js";

export default class Miou extends Base {
  static override description = "Scores semantic segmentation: intersection over union of label maps in PNG.";
  static override examples = ["<%= config.bin %> miou --gt SegmentationClass --pred results --ignore 255 --boundary"];
  static override flags = {
    gt: Flags.string({ required: true, description: "folder of label PNGs, palette or grey" }),
    pred: Flags.string({ required: true, description: "folder of predicted label PNGs under the same names" }),
    ignore: Flags.integer({ default: 255, description: "label of the truth whose pixels do not count" }),
    classes: Flags.integer({ min: 1, description: "number of classes; one more than the highest label without" }),
    boundary: Flags.boolean({ description: "also Boundary IoU: only pixels within 2 % of the diagonal from a border" }),
  };

  async run() {
    const { flags } = await this.parse(Miou);
    const { miou } = await import("../../evaluators/miou.js");
    const { labelPairs } = await import("../labelPairs.js");
    const result = miou(labelPairs(flags.gt, flags.pred), flags);
    const percent = (v: number | null | undefined): string => (v == null ? "–" : v.toFixed(2)).padStart(8);
    this.log(`class      IoU${flags.boundary ? " boundary" : ""}`);
    result.iou.forEach((own, c) =>
      this.log(
        `${String(c).padStart(5)} ${percent(own)}${flags.boundary ? ` ${percent(result.boundaryIou?.[c])}` : ""}`,
      ),
    );
    this.log(` mean ${percent(result.miou)}${flags.boundary ? ` ${percent(result.boundaryMiou)}` : ""}`);
    this.log(`pixel accuracy ${result.pixelAccuracy.toFixed(2)}, mean accuracy ${result.meanAccuracy.toFixed(2)}`);
    return result;
  }
}
