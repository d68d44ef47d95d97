import { Flags } from "@oclif/core";
import { Base } from "../base.js";

export default class VocEval extends Base {
  static override description = "Scores detections by PASCAL VOC's rules: average precision of each class.";
  static override examples = [
    "<%= config.bin %> voc-eval --gt VOC2007/Annotations --images VOC2007/ImageSets/Main/test.txt --dt results/ --metric 07",
  ];
  static override flags = {
    gt: Flags.string({ required: true, description: "folder of annotations in VOC's XML" }),
    dt: Flags.string({
      required: true,
      description:
        "folder of text files …_CLASS.txt with lines “image score xmin ymin xmax ymax”, or a JSON of results",
    }),
    images: Flags.string({ description: "list of the images that count, a name a line; all annotations without" }),
    metric: Flags.string({
      options: ["07", "12"],
      default: "12",
      description: "07: mean precision at eleven recalls; 12: area under the curve",
    }),
    iou: Flags.string({ default: "0.5", description: "detections overlap more than this to count" }),
  };

  async run() {
    const { flags } = await this.parse(VocEval);
    const { vocEval } = await import("../../evaluators/voc.js");
    const { readVocAnnotations, readVocDetections } = await import("../../evaluators/vocFiles.js");
    const iou = Number(flags.iou);
    if (!(iou >= 0 && iou <= 1)) throw new Error(`Expected a number from 0 to 1 for --iou but received ${flags.iou}.`);
    const truth = readVocAnnotations(flags.gt, flags.images);
    const classes = [...new Set([...truth.values()].flat().map(({ name }) => name))].sort();
    const result = vocEval(truth, readVocDetections(flags.dt, classes), { iou, metric: flags.metric as "07" | "12" });
    const width = Math.max(4, ...classes.map((c) => c.length));
    for (const [name, ap] of Object.entries(result.ap))
      this.log(`${name.padEnd(width)} ${ap === null ? "–" : ap.toFixed(2).padStart(6)}`);
    this.log(`${"mAP".padEnd(width)} ${result.map.toFixed(2).padStart(6)}`);
    return result;
  }
}
