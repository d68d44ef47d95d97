import { Args } from "@oclif/core";
import { Base } from "../../base.js";

export default class Show extends Base {
  static override description = "Prints a recipe with every default written out.";
  static override examples = ["<%= config.bin %> recipes show sample"];
  static override args = { name: Args.string({ required: true, description: "a recipe's name or a JSON file" }) };

  async run() {
    const { args } = await this.parse(Show);
    const { recipeNamed } = await import("../../plan.js");
    const { resolveRecipe } = await import("../../recipes/schema.js");
    const { input } = await recipeNamed(args.name);
    const recipe = resolveRecipe(input);
    this.log(JSON.stringify(recipe, null, 2));
    return recipe;
  }
}
