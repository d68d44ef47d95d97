import { Args, Flags } from "@oclif/core";
import { Base, engineFlags } from "../base.js";

export default class Evaluate extends Base {
  static override description =
    "Scores an encoder on labelled images: knn, linear, logistic and lowshot on the frozen features of any encoder.onnx, finetune, detection and segmentation for encoders of ours.";
  static override examples = [
    "<%= config.bin %> evaluate knn runs/sample-1/encoder.onnx --data samples",
    "<%= config.bin %> evaluate knn encoder.onnx --data photos/ --set k=1,20,200 --set vote=majority",
    "<%= config.bin %> evaluate knn runs/bagssl-r18w16-cifar10-1/encoder.onnx --data cifar10 --patches 16",
    "<%= config.bin %> evaluate linear encoder.onnx --data photos/ --set lr=0.1,1,10 --set epochs=30",
    "<%= config.bin %> evaluate linear resnet50.onnx --data photos/ --size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
    "<%= config.bin %> evaluate segmentation encoder.onnx --data camvid/ --set ignore=11 --out segmenter.onnx --picture answers.png",
    "<%= config.bin %> evaluate detection encoder.onnx --data coco/ --out detector.onnx --results results.json",
  ];
  static override args = {
    name: Args.string({
      required: true,
      description: "detection, finetune, knn, linear, logistic, lowshot, segmentation",
    }),
    encoder: Args.string({
      required: true,
      description:
        "an ONNX model with one input, float32 images [B,C,H,W] of 1, 3 or 4 channels; its output `features`, or the first, is judged",
    }),
  };
  static override flags = {
    ...engineFlags,
    data: Flags.string({
      required: true,
      description:
        "DIR with class folders, or DIR/train and DIR/val; cifar10 for the fetched data; for segmentation, DIR with label PNGs as in CamVid, VOC or COCO-Stuff; for detection, as in COCO or VOC",
    }),
    set: Flags.string({
      multiple: true,
      multipleNonGreedy: true,
      default: [],
      description: "an option of the judge, e.g. k=1,20; an unknown one is answered with the list",
    }),
    scratch: Flags.boolean({
      description: "add a row trained from random weights with the same labels (by finetune, for judges of features)",
    }),
    out: Flags.string({ description: "write what was trained, network and head, as one ONNX file" }),
    picture: Flags.string({ description: "draw some test images with what was found in them, PNG" }),
    results: Flags.string({
      description: "detection: write what was found as JSON, for coco-eval (of COCO data) or voc-eval (of VOC data)",
    }),
    patches: Flags.integer({
      min: 1,
      default: 1,
      description:
        "average features over so many random patches of each image, as BagSSL and EMP-SSL; 1: one centre crop",
    }),
    "patch-scale": Flags.custom<number>({
      default: 0.25,
      description: "share of the image's area that a patch covers: the scale the encoder was trained with",
      parse: (text) => {
        const share = Number(text);
        if (share > 0 && share <= 1) return Promise.resolve(share);
        throw new Error(`Expected a share above 0 and at most 1 for --patch-scale but received ${text}.`);
      },
    })(),
    cache: Flags.boolean({ allowNo: true, default: true, description: "keep features in the user's cache folder" }),
    resize: Flags.integer({ min: 1, description: "short side before the centre crop" }),
    size: Flags.integer({ min: 1, description: "pixels a side of the centre crop; needed for most foreign encoders" }),
    mean: Flags.string({ description: "r,g,b in 0–1, for a foreign encoder that does not normalise" }),
    std: Flags.string({ description: "r,g,b in 0–1" }),
  };

  async run() {
    const { args, flags } = await this.parse(Evaluate);
    const { byClass, evaluatorNamed, judged, table } = await import("../evaluate.js");
    const { resolveOptions } = await import("../options.js");
    const evaluator = evaluatorNamed(args.name);
    const options = resolveOptions(args.name, evaluator, flags.set);
    const { engineFor } = await import("../engine.js");
    const { notes, rows } = await judged(await engineFor(flags, this.say), evaluator, options, args.encoder, {
      ...flags,
      say: this.say,
    });
    for (const note of notes) this.log(note);
    this.log(table(rows));
    if (rows[0]!.perClass) this.log(`\n${table(byClass(rows))}`);
    return Object.fromEntries(
      rows.flatMap(({ key, metrics, perClass = {} }) => {
        const named = [...Object.entries(metrics), ...Object.entries(perClass).map(([c, v]) => [`class.${c}`, v])];
        return named.map(([m, v]) => [key ? `${key}.${m}` : m, v]);
      }),
    ) as Record<string, number>;
  }
}
