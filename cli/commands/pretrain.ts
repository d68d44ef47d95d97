import { Args, Flags } from "@oclif/core";
import { Base, engineFlags } from "../base.js";

export default class Pretrain extends Base {
  static override description =
    "Trains an encoder on images without labels, and writes it as ONNX with a score and a report.";
  static override examples = [
    "<%= config.bin %> pretrain sample",
    "<%= config.bin %> pretrain --data photos/",
    "<%= config.bin %> pretrain densecl-r18-64 --data photos/ --set method.temperature=0.1 --epochs 50",
    "<%= config.bin %> pretrain photos --data photos/ --backbone convnext.onnx",
    "<%= config.bin %> pretrain --resume --out runs/photos-1",
  ];
  static override args = {
    recipe: Args.string({ description: "a recipe's name (diptych recipes list) or a JSON file; default photos" }),
  };
  static override flags = {
    ...engineFlags,
    data: Flags.string({ description: "folder of images; DIR/train is used where there is one" }),
    backbone: Flags.string({
      description: "a backbone's name, or any ONNX file with one image input, to train on from its weights",
    }),
    out: Flags.string({ description: "run folder; default runs/RECIPE-N" }),
    set: Flags.string({
      multiple: true,
      multipleNonGreedy: true,
      default: [],
      description: "an option of the recipe, e.g. method.temperature=0.1",
    }),
    epochs: Flags.integer({ min: 1, description: "passes over the data" }),
    "batch-size": Flags.integer({ min: 1, description: "images a step" }),
    size: Flags.integer({ min: 1, description: "pixels a side of the views" }),
    limit: Flags.integer({ min: 1, description: "only the first N images" }),
    seed: Flags.integer({ min: 0, description: "decides weights, order and augmentation" }),
    precision: Flags.string({
      options: ["fp32", "tf32", "fp16", "bf16"],
      description: "of products and convolutional activations: fp16 with a loss scale, bf16 for ViTs; default fp32",
    }),
    init: Flags.string({
      description:
        "start from weights: .pth, .safetensors or .onnx of ours, torchvision, timm, detectron2, or the authors' checkpoint",
    }),
    "cuda-graphs": Flags.boolean({
      description: "with --device cuda --engine portable: the step is captured once, and launched whole from then on",
    }),
    resume: Flags.boolean({ description: "continue --out, or the newest run of RECIPE" }),
    "dry-run": Flags.boolean({ description: "print the resolved recipe, views, parameters and memory, and stop" }),
  };

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(Pretrain);
    const { planned } = await import("../plan.js");
    const plan = await planned(args.recipe, flags);
    plan.notes.forEach(this.say);
    if (flags["dry-run"]) {
      const { dryRun } = await import("../dryRun.js");
      const summary = dryRun(plan.recipe);
      if (!this.jsonEnabled()) this.log(summary.text);
      return summary.data;
    }
    const { engineFor } = await import("../engine.js");
    const { pretrain } = await import("../run.js");
    const { progressBar } = await import("../progress.js");
    const engine = await engineFor(flags, this.say);
    const bar = progressBar(this.say);
    let stops = 0;
    const onInterrupt = (): void => {
      if (++stops > 1) process.exit(130);
      bar.say("Stopping after this step; once more to stop now.");
    };
    process.on("SIGINT", onInterrupt);
    process.on("SIGTERM", onInterrupt);
    try {
      bar.say(
        `${plan.name} → ${plan.out} (ONNX Runtime ${engine.version}, ${engine.name} engine, ${engine.device}, ${engine.threads} threads)`,
      );
      const result = await pretrain({
        recipe: plan.recipe,
        recipeName: plan.name,
        out: plan.out,
        engine,
        resume: flags.resume,
        init: flags.init,
        listener: bar,
        stopping: () => stops > 0,
      });
      bar.stop();
      if (!this.jsonEnabled()) {
        this.log(`encoder: ${result.encoder}`);
        this.log(`loss: ${result.loss.first.toFixed(4)} → ${result.loss.last.toFixed(4)} in ${result.steps} steps`);
        if (result.knn)
          this.log(
            `kNN top1: ${result.knn.first.toFixed(2)} → ${result.knn.last.toFixed(2)} ± ${result.knn.se.toFixed(2)} (raw pixels ${result.knn.pixels.toFixed(2)})`,
          );
        this.log(`report: ${result.run}/report.html`);
      }
      return result;
    } finally {
      bar.stop();
      process.off("SIGINT", onInterrupt);
      process.off("SIGTERM", onInterrupt);
    }
  }
}
