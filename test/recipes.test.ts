import assert from "node:assert/strict";
import { dryRun } from "../cli/dryRun.js";
import { recipes, type Listed } from "../cli/recipes/index.js";
import { resolveRecipe, withSettings } from "../cli/recipes/schema.js";

const written = (name: keyof typeof recipes, ...settings: string[]) =>
  resolveRecipe(withSettings((recipes[name] as Listed).recipe, settings));

describe("recipes", () => {
  for (const [name, { recipe, paper }] of Object.entries(recipes) as [string, Listed][])
    it(`${name} names its paper, resolves to itself, and builds its step`, () => {
      assert.match(paper, /arXiv \d{4}\.\d{5}/);
      const resolved = resolveRecipe(recipe);
      assert.deepEqual(resolveRecipe(resolved), resolved);
      assert.ok(dryRun(resolved).data.parameters > 0);
    });

  it("that are faithful write out what the released code does otherwise", () => {
    assert.equal(written("aps-vits2-cifar10").method.flipAware, false);
    assert.equal(written("aps-vit4-cifar10-small").method.flipAware, true);
    assert.equal(written("aps-vit4-cifar10-small", "method.faithful=true").method.flipAware, false);
    assert.equal(written("isd-r18-imagenet").method.queueInit, "columns");
    assert.equal(written("isd-r50-imagenet", "method.faithful=true").method.queueInit, "rows");
  });
  it("refuse an option that contradicts faithful", () => {
    assert.throws(
      () => written("aps-vits2-cifar10", "method.flipAware=true"),
      /method\.flipAware=true contradicts method\.faithful, which sets it to false\. Leave one of them out\./,
    );
  });
  it("schedule what their method schedules, DenseCL's λ too", () => {
    const lossLambda = { schedule: "delayed", value: 0.5, startStep: 10000 };
    const recipe = written("densecl-r50-imagenet", `method.lossLambda=${JSON.stringify(lossLambda)}`);
    assert.deepEqual(recipe.method.lossLambda, lossLambda);
    assert.deepEqual(written("byol-r50-imagenet").method.momentum, { schedule: "cosine", peak: 0.996, end: 1 });
  });
});
