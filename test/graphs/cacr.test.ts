import assert from "node:assert/strict";
import { l2normalize } from "../../graphs/layers.js";
import { batchLoss, cacr, mocov3Loss, queueLoss, type CacrOptions } from "../../graphs/methods/cacr.js";
import { mocov3 } from "../../graphs/methods/mocov3.js";
import { rootScope } from "../../graphs/scope.js";
import { input, type Value } from "../../src/onnx/graph.js";
import { Slice, Squeeze } from "../../src/ops/index.js";
import { tensor } from "../../src/tensor.js";
import { portableEngine } from "../engine.js";
import { evaluate } from "../evaluate.js";
import type { GoldenTensor } from "../goldens/case.js";
import { wave } from "./waves.js";

const o = (options: Partial<CacrOptions>): CacrOptions => ({ ...cacr.defaults, ...options });
const released = cacr.released!(cacr.defaults);

/** Outputs of `build` on unit rows of the given tensors. */
async function run(
  tensors: GoldenTensor[],
  build: (...unit: [Value, Value, Value]) => Record<string, Value>,
): Promise<Record<string, number[]>> {
  const inputs = tensors.map((t, i) => input(`x${i}`, "float32", t.shape));
  const feeds = Object.fromEntries(tensors.map((t, i) => [`x${i}`, tensor("float32", t.shape, t.data)]));
  const out = await evaluate(
    portableEngine(),
    inputs,
    build(...(inputs.map((x) => l2normalize(x)) as [Value, Value, Value])),
    feeds,
  );
  return Object.fromEntries(Object.entries(out).map(([k, v]) => [k, Array.from(v.data as Float32Array)]));
}
const close = (got: number, want: number, within = 1e-5): void =>
  assert.ok(Math.abs(got - want) <= within * (1 + Math.abs(want)), `${got}, expected ${want}`);
const parts = ({ loss, metrics }: { loss: Value; metrics: { attraction: Value; repulsion: Value } }) => ({
  loss,
  ...metrics,
});

const views = wave(1, [3, 4, 5]);

describe("CACR in the batch", () => {
  it("equals numbers computed by NumPy from the same rows", async () => {
    const out = await run([views], (z) => parts(batchLoss(z, o({ tNeg: 0.9 }))));
    close(out.attraction![0]!, 2.2258165451);
    close(out.repulsion![0]!, -1.4248367337);
    close(out.loss![0]!, 0.8009798113);
    const rbf = await run([views], (z) => parts(batchLoss(z, o({ tNeg: 0.9, cost: "rbf" }))));
    close(rbf.repulsion![0]!, -1.9544291916);
  });
  it("weighs evenly where t is 0, as its ablations do at any t", async () => {
    const even = await run([views], (z) => parts(batchLoss(z, o({ tPos: 0, tNeg: 0 }))));
    const ablated = await run([views], (z) => parts(batchLoss(z, o({ weighPositives: false, weighNegatives: false }))));
    for (const name of ["attraction", "repulsion"]) close(ablated[name]![0]!, even[name]![0]!);
  });
  it("attracts by 0 and repels by all of β·2 where views agree and images are orthogonal", async () => {
    const eye = Array.from({ length: 16 }, (_, i) => Number(i % 5 === 0));
    const out = await run([{ shape: [2, 4, 4], data: [...eye, ...eye] }], (z) => parts(batchLoss(z, o({ beta: 3 }))));
    close(out.attraction![0]!, 0);
    close(out.repulsion![0]!, -6);
  });
});

describe("CACR with a queue", () => {
  const [keys, queue] = [wave(2, [3, 4, 5]), wave(9, [6, 5])];
  it("equals numbers computed by NumPy, with each view's own costs and with the released cache", async () => {
    const own = await run([views, keys, queue], (q, k, u) => parts(queueLoss(q, k, u, o({}))));
    close(own.attraction![0]!, 2.2590060276);
    close(own.repulsion![0]!, -0.9300527402);
    const cached = await run([views, keys, queue], (q, k, u) => parts(queueLoss(q, k, u, o(released))));
    close(cached.attraction![0]!, 2.2590060276);
    close(cached.repulsion![0]!, -0.8147716014);
  });
  it("takes the last view's keys into the queue, and only them", async () => {
    const { scope, collected } = rootScope("portable");
    const [q, k] = [input("q", "float32", [3, 4, 5]), input("k", "float32", [3, 4, 5])];
    cacr.loss(scope, { q, k }, { q, k }, o({ form: "queue", positives: 2, queueSize: 8 }));
    const rows = collected.states.get("queue")!.rows!;
    const out = await evaluate(portableEngine(), [k], { rows }, { k: tensor("float32", [3, 4, 5], keys.data) });
    const { last } = await run([keys], (unit) => ({ last: Slice(unit, { starts: [2], ends: [3], axes: [0] }) }));
    last!.forEach((v, i) => close(Number(out.rows!.data[i]), v));
  });
});

describe("CACR on MoCo-v3", () => {
  const keys = wave(2, [2, 4, 5]);
  it("equals numbers computed by NumPy for one key and three queries", async () => {
    // key 0 leaves out view 0, whatever it is
    const four = { shape: [4, 4, 5], data: [...wave(7, [4, 5]).data, ...views.data] };
    const key = wave(2, [1, 4, 5]);
    const loss = (options: Partial<CacrOptions>) => (q: Value, k: Value) => {
      const { loss, positive } = mocov3Loss(q, k, o(options));
      return { loss, positive };
    };
    const rbf = await run([four, key], loss({ cost: "rbf" }));
    close(rbf.loss![0]!, 1.4646680778);
    [0, 4.3e-7, 0.99918239, 0.00081718].forEach((want, v) => close(rbf.positive![v]!, want, 1e-6));
    const euclidean = await run([four, key], loss({ cost: "euclidean", ...released }));
    close(euclidean.loss![0]!, 2.2389098018);
  });
  it("with two views and the Gaussian cost is half of MoCo-v3's loss", async () => {
    const two = wave(4, [2, 4, 5]);
    const out = await run([two, keys], (q, k) => {
      const nth = (x: Value, i: number) => Squeeze(Slice(x, { starts: [i], ends: [i + 1], axes: [0] }), [0]);
      const own = { q1: nth(q, 0), q2: nth(q, 1), k1: nth(k, 0), k2: nth(k, 1) };
      const options = { ...mocov3.defaults, temperature: 0.2 };
      return {
        half: mocov3Loss(q, k, o({ cost: "rbf", temperature: 0.2 })).loss,
        whole: mocov3.loss(rootScope("portable").scope, own, own, options).loss,
      };
    });
    close(2 * out.half![0]!, out.whole![0]!);
  });
  it("as the paper has it is a mean over the batch of twice the released cost", async () => {
    // at half the temperature the doubled costs have the same weights against negatives, and π⁺ is set even by one positive
    const two = wave(4, [2, 4, 5]);
    const loss = (options: Partial<CacrOptions>) => (q: Value, k: Value) => ({
      loss: mocov3Loss(q, k, o({ cost: "euclidean", ...options })).loss,
    });
    const paper = await run([two, keys], loss({ temperature: 0.4 }));
    const code = await run([two, keys], loss({ temperature: 0.2, ...released }));
    close(paper.loss![0]!, (2 / 4) * code.loss![0]!);
  });
});

describe("CACR's options", () => {
  const z = input("z", "float32", [2, 4, 5]);
  const { scope } = rootScope("portable");
  it("need as many views as positives and one", () => {
    const sentence = /CACR: 4 positives need 5 views of each image, got 2\. Give as many, or ask for fewer\./;
    assert.throws(() => cacr.loss(scope, { z }, { z }, o({})), sentence);
    assert.throws(() => cacr.loss(scope, { q: z, k: z }, { q: z, k: z }, o({ form: "queue" })), sentence);
    assert.throws(
      () => cacr.loss(scope, { q: z, k: z }, { q: z, k: z }, o({ form: "mocov3", localCrops: 8 })),
      /CACR: 8 local crops need 10 views of each image, got 2\./,
    );
  });
  it("refuse half a positive, a cost without a queue form, heads without width, an unknown form", () => {
    const asked = (options: object) => () => cacr.views(o(options), 32);
    assert.throws(asked({ positives: 0 }), /expected a whole number of at least 1 for positives but received 0\./);
    assert.throws(
      asked({ form: "queue", cost: "rbf" }),
      /the queue form has the euclidean cost only but received cost rbf\./,
    );
    assert.throws(asked({ form: "mocov3", hiddenDim: 0 }), /heads of the mocov3 form need a hiddenDim above 0\./);
    assert.throws(
      asked({ form: "moco" }),
      /Unknown form of cacr "moco"\. Did you mean mocov3\? Available: batch, mocov3, queue\./,
    );
  });
  it("refuse a batch that does not divide the queue", () => {
    const q = input("q", "float32", [5, 4, 5]);
    assert.throws(
      () => cacr.loss(rootScope("portable").scope, { q, k: q }, { q, k: q }, o({ form: "queue", queueSize: 10 })),
      /queue: a queue of 10 rows takes batches that divide it, got 4 rows a step\./,
    );
  });
});
