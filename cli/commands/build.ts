import { Args, Flags } from "@oclif/core";
import { Base } from "../base.js";

export default class Build extends Base {
  static override description =
    "Writes the artifacts of a recipe alone: ONNX training artifacts that any language can drive.";
  static override examples = ["<%= config.bin %> build sample --out artifacts/"];
  static override args = { recipe: Args.string({ required: true, description: "a recipe's name or a JSON file" }) };
  static override flags = {
    out: Flags.string({ required: true, description: "folder to write" }),
    set: Flags.string({ multiple: true, multipleNonGreedy: true, default: [], description: "an option of the recipe" }),
  };

  async run() {
    const { args, flags } = await this.parse(Build);
    const { recipeNamed, withBackboneFile } = await import("../plan.js");
    const { resolveRecipe, withSettings } = await import("../recipes/schema.js");
    const { stepOf } = await import("../run.js");
    const { packageStep, writeArtifacts } = await import("../../src/artifacts/index.js");
    const { initialTensors } = await import("../../src/step.js");
    const recipe = await withBackboneFile(
      resolveRecipe(withSettings((await recipeNamed(args.recipe)).input, flags.set)),
    );
    const step = stepOf(recipe, "training");
    await writeArtifacts(flags.out, packageStep(step, initialTensors(step, recipe.seed), ["training"]));
    this.log(flags.out);
    return { out: flags.out, parameters: step.parameters.length, state: step.state.length };
  }
}
