import { Base } from "../base.js";
import { cocoEvalFlags, runCocoEval } from "../cocoEval.js";
import { oclifFlags } from "../plainFlags.js";

export default class CocoEval extends Base {
  static override description =
    "Scores COCO detections with pycocotools' numbers: twelve for bbox and segm, ten for keypoints.";
  static override examples = [
    "<%= config.bin %> coco-eval --gt instances_val2017.json --dt results.json --iou segm --per-class",
  ];
  static override flags = oclifFlags(cocoEvalFlags);

  async run() {
    const { flags } = await this.parse(CocoEval);
    const { result, lines } = runCocoEval(flags, this.say);
    lines().forEach((line) => this.log(line));
    return result;
  }
}
