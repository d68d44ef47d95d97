import { Base } from "../../base.js";

export default class List extends Base {
  static override description = "Lists the recipes with paper, data, cost and expected score (only measured ones).";
  static override examples = ["<%= config.bin %> recipes list"];

  async run() {
    await this.parse(List);
    const { recipes } = await import("../../recipes/index.js");
    const list = Object.entries(recipes as Record<string, import("../../recipes/index.js").Listed>).map(
      ([name, { recipe, ...rest }]) => ({
        name,
        summary: recipe.summary,
        data: recipe.data.name ?? "imageFolder",
        ...rest,
      }),
    );
    for (const r of list)
      this.log(
        `${r.name.padEnd(24)} ${r.summary}\n${"".padEnd(25)}${r.paper}${r.cost ? `; ${r.cost}` : ""}${r.expected ? `; ${r.expected}` : ""}`,
      );
    return { recipes: list };
  }
}
