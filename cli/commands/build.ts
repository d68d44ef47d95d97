import { Args, Flags } from "@oclif/core";
import type { Device } from "../../src/onnx/graph.js";
import { Base } from "../base.js";

export default class Build extends Base {
  static override description =
    "Writes the artifacts of a recipe alone: ONNX training artifacts that any language can drive.";
  static override examples = [
    "<%= config.bin %> build sample --out artifacts/",
    "<%= config.bin %> build sample --device cuda --out artifacts/",
  ];
  static override args = { recipe: Args.string({ required: true, description: "a recipe's name or a JSON file" }) };
  static override flags = {
    out: Flags.string({ required: true, description: "folder to write" }),
    device: Flags.string({
      options: ["cpu", "cuda"] as const,
      default: "cpu",
      description: "where the step is to run; for cuda, nodes without a CUDA kernel are listed",
    }),
    set: Flags.string({ multiple: true, multipleNonGreedy: true, default: [], description: "an option of the recipe" }),
  };

  async run() {
    const { args, flags } = await this.parse(Build);
    const { recipeNamed, withBackboneFile } = await import("../plan.js");
    const { resolveRecipe, withSettings } = await import("../recipes/schema.js");
    const { runsOnCpu, stepOf } = await import("../run.js");
    const { packageStep, valuesOf, writeArtifacts } = await import("../../src/artifacts/index.js");
    const { withoutCudaKernel } = await import("../../src/ops/cuda.js");
    const { initialTensors } = await import("../../src/step.js");
    const recipe = await withBackboneFile(
      resolveRecipe(withSettings((await recipeNamed(args.recipe)).input, flags.set)),
    );
    const step = stepOf(recipe, "training", flags.device as Device);
    const onCpu = flags.device === "cuda" ? withoutCudaKernel(valuesOf(step)).map(runsOnCpu) : [];
    for (const line of onCpu) this.say(line);
    await writeArtifacts(flags.out, packageStep(step, initialTensors(step, recipe.seed), ["training"]));
    this.log(flags.out);
    return { out: flags.out, parameters: step.parameters.length, state: step.state.length, onCpu };
  }
}
