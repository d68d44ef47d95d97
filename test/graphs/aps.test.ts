import assert from "node:assert/strict";
import { boundNetwork } from "../../graphs/encoder.js";
import { draw } from "../../graphs/augment.js";
import {
  aps,
  unseen,
  unseenAfterFlips,
  withoutReplacement,
  type ApsOptions,
  type Shown,
} from "../../graphs/methods/aps.js";
import { rootScope } from "../../graphs/scope.js";
import { constant, input } from "../../src/onnx/graph.js";
import { random } from "../../src/random.js";
import { initialTensors } from "../../src/step.js";
import { tensor } from "../../src/tensor.js";
import { trainingEngine } from "../engine.js";
import { evaluate } from "../evaluate.js";

const images = 64;
/** Both views of some images of CIFAR's size, as the method's pipeline draws them. */
function views(seed: number): Shown[][] {
  const [spec] = aps.views(aps.defaults, 32);
  return [0, 1].map((copy) =>
    Array.from({ length: images }, (_, i) => draw(random(seed, "views", copy, i), { width: 32, height: 32 }, spec!)),
  );
}
/** Kept patches of both views at an inner step: [view][image][n] */
function kept(options: ApsOptions, shown: Shown[][], inner: number): number[][][] {
  const { tokens1, tokens2 } = aps.draw!(random(3, "draw"), options, images, { inner, views: { views: shown } });
  return [tokens1!, tokens2!].map(({ data, shape: [, n] }) =>
    Array.from({ length: images }, (_, i) => Array.from(data.slice(i * n!, (i + 1) * n!), Number)),
  );
}
/** Mean share of view 2's kept patches that view 1's kept patches show, flips considered. */
function overlap(options: ApsOptions): number {
  const shown = views(1);
  const [first, second] = kept(options, shown, 0) as [number[][], number[][]];
  const shares = first.map((tokens, i) => {
    const rho = unseenAfterFlips(shown[0]![i]!, shown[1]![i]!, tokens, options.grid);
    return second[i]!.reduce((sum, b) => sum + 1 - rho[b]!, 0) / tokens.length;
  });
  return shares.reduce((a, b) => a + b, 0) / images;
}

describe("APS' patch sampling", () => {
  it("cuts view 1 into disjoint subsets over the steps of a batch", () => {
    const shown = views(0);
    const subsets = [0, 1, 2, 3].map((inner) => kept(aps.defaults, shown, inner)[0]!);
    for (let i = 0; i < images; i++) {
      const all = subsets.flatMap((s) => s[i]!).sort((a, b) => a - b);
      assert.deepEqual(
        all,
        Array.from({ length: 256 }, (_, k) => k),
      );
    }
  });
  it("draws view 2's patches anew at each step, no patch twice", () => {
    const shown = views(0);
    const [one, two] = [0, 1].map((inner) => kept(aps.defaults, shown, inner)[1]!) as [number[][], number[][]];
    assert.notDeepEqual(one, two);
    for (const tokens of one) assert.equal(new Set(tokens).size, 64);
  });
  it("is a function of its stream: the same again for the same step", () => {
    assert.deepEqual(kept(aps.defaults, views(0), 2), kept(aps.defaults, views(0), 2));
  });
  it("sees everything of a view that shares no pixel, nothing of the kept patches of the same crop", () => {
    const box = (top: number, left: number) => ({ top, left, height: 16, width: 16 });
    assert.ok(unseen(box(0, 0), box(16, 16), [0, 5, 15], 4).every((rho) => rho === 1));
    const rho = unseen(box(3, 2), box(3, 2), [0, 5, 15], 4);
    rho.forEach((v, patch) => assert.equal(v, [0, 5, 15].includes(patch) ? 0 : 1));
  });
  it("does not care whether the image or both views were mirrored", () => {
    const [one, two] = [
      { top: 2, left: 4, height: 20, width: 24 },
      { top: 8, left: 6, height: 24, width: 22 },
    ] as const;
    const mirror = (b: typeof one | typeof two) => ({ ...b, left: 32 - b.left - b.width });
    const tokens = [0, 3, 17, 77, 200];
    const flipped = unseenAfterFlips({ crop: one, flip: true }, { crop: two, flip: true }, tokens, 16);
    unseen(mirror(one), mirror(two), tokens, 16).forEach((rho, i) => assert.ok(Math.abs(rho - flipped[i]!) < 1e-12));
  });
  it("avoids what view 1 shows; the released sampler, which ignores flips, keeps a third of that", () => {
    // over 3000 pairs of crops: 0.166 uniform, 0.123 as released, 0.040 aware of flips
    const uniform = overlap({ ...aps.defaults, power: 0 });
    const aware = overlap(aps.defaults);
    const released = overlap({ ...aps.defaults, ...aps.released!(aps.defaults) });
    assert.ok(Math.abs(uniform - 0.166) < 0.03, `uniform ${uniform}`);
    assert.ok(Math.abs(released - 0.123) < 0.03, `released ${released}`);
    assert.ok(Math.abs(aware - 0.04) < 0.02, `aware ${aware}`);
  });
  it("fills up with the other patches where too few have weight", () => {
    const picked = withoutReplacement([0, 1, 0, 0], 3, random(0, "u").uniform);
    assert.equal(picked[0], 1);
    assert.equal(new Set(picked).size, 3);
  });
});

describe("APS' network", () => {
  const options = { ...aps.defaults, grid: 4, hiddenDim: 8, outDim: 4 };
  const small = { embedDim: 16, depth: 2, numHeads: 2, patchSize: 4 };
  const embed = (network: ReturnType<typeof boundNetwork>, o: ApsOptions) => {
    const tokens = ["tokens1", "tokens2"].map((n) => input(n, "int64", [2, 4]));
    const inputs = { views: input("views", "float32", [2, 2, 3, 16, 16]), tokens1: tokens[0]!, tokens2: tokens[1]! };
    return aps.embed(rootScope("training").scope, network, inputs, o);
  };
  it("gives the same features for all patches in any order as without a choice", async () => {
    const network = boundNetwork("vitTiny", small);
    const { scope, collected } = rootScope("training");
    const image = input("image", "float32", [1, 3, 16, 16]);
    const order = constant([1, 16], [...random(0, "order").permutation(16)], "int64");
    const [all, chosen] = [network(scope, image).features, network(scope, image, order).features];
    const parameters = [...collected.parameters.values()];
    const r = random(1, "image");
    const out = await evaluate(
      await trainingEngine(),
      [image, ...parameters.map((p) => p.value)],
      { all, chosen },
      {
        ...initialTensors({ parameters, state: [] }, 0),
        image: tensor(
          "float32",
          [1, 3, 16, 16],
          Array.from({ length: 768 }, () => r.normal()),
        ),
      },
    );
    out.all!.data.forEach((v, i) => assert.ok(Math.abs(Number(v) - Number(out.chosen!.data[i])) < 1e-5));
  });
  it("refuses a backbone without patches, another grid, too many subsets, and patches that do not fit", () => {
    assert.throws(
      () => embed(boundNetwork("resnet18"), options),
      /aps runs a choice of patches, which this backbone cannot\. Take a ViT: --set backbone\.name=vitTiny\./,
    );
    assert.throws(
      () => embed(boundNetwork("vitTiny", small), aps.defaults),
      /aps: the backbone cuts 16 px into 4 patches a side, but method\.grid is 16\. Set method\.grid to 4, or another backbone\.patchSize\./,
    );
    assert.throws(
      () => embed(boundNetwork("vitTiny", small), { ...options, keepRatio: 0.5 }),
      /aps: 4 disjoint subsets of 0\.5 of the patches do not fit into a grid of 4 × 4\. Lower method\.subsets or method\.keepRatio\./,
    );
    assert.throws(
      () =>
        boundNetwork("vitTiny", { patchSize: 3 })(rootScope("training").scope, input("x", "float32", [1, 3, 16, 16])),
      /vit: 16 px do not divide into patches of 3\./,
    );
  });
});
