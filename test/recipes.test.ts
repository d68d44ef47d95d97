import assert from "node:assert/strict";
import { dryRun } from "../cli/dryRun.js";
import { recipes, type Listed } from "../cli/recipes/index.js";
import { resolveRecipe, withSettings, type RecipeInput } from "../cli/recipes/schema.js";

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

  it("do not compile with an option or a word that does not exist", () => {
    const rest = { data: { size: 32 }, batchSize: 8, epochs: 1 };
    const [backbone, method] = [{ name: "resnet18" }, { name: "simclr" }] as const;
    const optimizer = { name: "sgd", lr: 0.1 } as const;
    const mistaken: RecipeInput[] = [
      // @ts-expect-error -- temprature
      { ...rest, backbone, optimizer, method: { name: "simclr", temprature: 0.2 } },
      // @ts-expect-error -- a queue is MoCo's
      { ...rest, backbone, optimizer, method: { name: "simclr", queueSize: 64 } },
      // @ts-expect-error -- part of a view
      { ...rest, backbone, optimizer, method: { name: "simclr", view: { gray: 0.2 } } },
      // @ts-expect-error -- vectors
      { ...rest, backbone, method, optimizer: { name: "sgd", lr: 0.1, exclude: "vector" } },
      // @ts-expect-error -- cifar
      { ...rest, method, optimizer, backbone: { name: "resnet18", stem: "cifar10" } },
      // @ts-expect-error -- no such schedule
      { ...rest, backbone, method, optimizer: { name: "sgd", lr: { schedule: "cosin", peak: 0.1 } } },
    ];
    for (const recipe of mistaken) assert.throws(() => resolveRecipe(recipe), /Unknown option|Expected/);
  });
  it("take words only where a word is meant", () => {
    assert.throws(
      () => written("photos", "optimizer.exclude=vector"),
      /Expected one of none, vectors for optimizer\.exclude but received "vector"/,
    );
    assert.throws(
      () => written("isd-r18w16-cifar10", "method.augmentation=weak/wild"),
      /Expected one of weak\/strong, .* for method\.augmentation/,
    );
  });
  it("bring another method's own options with its name, and keep the data's with another dataset's", () => {
    assert.equal("temperature" in written("simclr-r18w16-cifar10", "method.name=byol").method, false);
    const { limit, size } = written("simclr-r18w16-cifar10", "data.name=imageFolder").data;
    assert.deepEqual({ limit, size }, { limit: 10_000, size: 32 });
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
