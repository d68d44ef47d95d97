import assert from "node:assert/strict";
import { codingRate, factored } from "../../graphs/codingRate.js";
import { l2normalize } from "../../graphs/layers.js";
import { bagssl, cooccurrence, pairsOf } from "../../graphs/methods/bagssl.js";
import { methods, type Method } from "../../graphs/methods/index.js";
import { pairAgreement, tcr } from "../../graphs/methods/tcr.js";
import { vicreg, vicregLoss } from "../../graphs/methods/vicreg.js";
import { rootScope } from "../../graphs/scope.js";
import { gradients } from "../../src/autodiff.js";
import { input, type Value } from "../../src/onnx/graph.js";
import { MatMul, ReduceSum, transposed } from "../../src/ops/index.js";
import { random } from "../../src/random.js";
import { tensor, type DType } from "../../src/tensor.js";
import { plainOnTraining, portableEngine } from "../engine.js";
import { evaluate } from "../evaluate.js";
import type { GoldenTensor } from "../goldens/case.js";
import { wave } from "./waves.js";

/** What `build` makes of one tensor, and its first output's gradient as `grad`. */
async function run(
  t: GoldenTensor,
  build: (x: Value) => Record<string, Value>,
  dtype: DType = "float32",
): Promise<Record<string, number[]>> {
  const x = input("x", dtype, t.shape);
  const outputs = build(x);
  const [first] = Object.values(outputs);
  const [grad] = gradients(ReduceSum(first!, { keepdims: 0 }), [x]);
  const engine = dtype === "float64" ? await plainOnTraining() : portableEngine();
  const out = await evaluate(engine, [x], { ...outputs, grad: grad! }, { x: tensor(dtype, t.shape, t.data) });
  return Object.fromEntries(Object.entries(out).map(([k, v]) => [k, Array.from(v.data as Float32Array, Number)]));
}
const normal = (shape: number[], seed = 0): GoldenTensor => {
  const r = random(seed, "patches");
  return { shape, data: Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => r.normal()) };
};
const close = (got: number, want: number, within = 1e-5): void =>
  assert.ok(Math.abs(got - want) <= within * (1 + Math.abs(want)), `${got}, expected ${want}`);
const rate = (epsilon: number) => (z: Value) => ({ rate: codingRate(z, epsilon) });
const lossOf = (method: Method<never>, options: object) => (z: Value) => {
  const { loss, metrics } = method.loss(rootScope("portable").scope, { z }, { z }, options as never);
  return { loss, ...metrics };
};

describe("the coding rate", () => {
  it("is n/2·log(1 + c) where the rows are orthonormal, with gradient c/(1 + c)·Z", async () => {
    const identity = { shape: [1, 4, 4], data: Array.from({ length: 16 }, (_, i) => Number(i % 5 === 0)) };
    const out = await run(identity, rate(0.2));
    close(out.rate![0]!, 2 * Math.log(1 + 5));
    identity.data.forEach((v, i) => close(out.grad![i]!, (5 / 6) * v));
  });
  it("is ½·log(1 + d/ε) where all rows are one", async () => {
    const data = Array.from({ length: 30 * 64 }, (_, i) => Number(i % 64 === 3));
    close((await run({ shape: [1, 30, 64], data }, rate(0.2))).rate![0]!, 0.5 * Math.log(1 + 64 / 0.2));
  });
  it("is the same through n×n and through d×d", async () => {
    const [n, d, epsilon] = [5, 12, 0.3];
    const z = normal([1, n, d]);
    const turned = { shape: [1, d, n], data: z.data.map((_, i) => z.data[(i % n) * d + Math.floor(i / n)]!) };
    const wide = await run(z, rate(epsilon));
    // c = d/(n·ε) is the one of n/(d·ε') at ε' = n²·ε/d²
    const tall = await run(turned, rate((n * n * epsilon) / (d * d)));
    close(tall.rate![0]!, wide.rate![0]!);
    wide.grad!.forEach((g, i) => close(tall.grad![(i % d) * n + Math.floor(i / d)]!, g));
  });
  it("has the gradient that differences show", async () => {
    const z = normal([2, 6, 9], 3);
    const v = normal([2, 6, 9], 4).data;
    const at = async (h: number) => {
      const moved = { shape: z.shape, data: z.data.map((x, i) => x + h * v[i]!) };
      return (await run(moved, rate(0.2), "float64")).rate!.reduce((a, b) => a + b);
    };
    const analytic = (await run(z, rate(0.2), "float64")).grad!.reduce((s, g, i) => s + g * v[i]!, 0);
    close(analytic, ((await at(1e-5)) - (await at(-1e-5))) / 2e-5, 1e-7);
  });
  it("rests on a factor with L⁻¹·A·L⁻ᵀ = I, for odd sizes too", async () => {
    for (const n of [1, 2, 7, 13]) {
      const out = await run(normal([2, n, n + 3], n), (x) => {
        const a = MatMul(x, transposed(x));
        const { factor } = factored(a);
        return { product: MatMul(MatMul(factor, a), transposed(factor)) };
      });
      out.product!.forEach((v, i) => close(v, Number((i % (n * n)) % (n + 1) === 0), 1e-3));
    }
  });
});

describe("EMP-SSL's loss", () => {
  const z = wave(1, [3, 4, 5]);
  const options = { ...tcr.defaults, ...tcr.released!(tcr.defaults) };
  it("equals numbers computed by NumPy from the same rows", async () => {
    const out = await run(z, lossOf(tcr as never, options));
    close(out.tcrLoss![0]!, -3.2955983213);
    close(out.cosine![0]!, 0.5853296774);
    close(out.loss![0]!, -120.3615338033);
  });
  it("as the paper has it squares ε", async () => {
    const squared = await run(z, lossOf(tcr as never, { ...tcr.defaults, epsilon: Math.sqrt(0.2) }));
    close(squared.tcrLoss![0]!, -3.2955983213);
  });
  it("has agreement 1 where all patches of an image have one embedding", async () => {
    const one = wave(2, [1, 4, 5]);
    const out = await run(
      { shape: [3, 4, 5], data: [...one.data, ...one.data, ...one.data] },
      lossOf(tcr as never, options),
    );
    close(out.cosine![0]!, 1);
  });
});

describe("VICReg's loss", () => {
  it("equals numbers computed by NumPy from the same rows", async () => {
    const pair = { shape: [2, 4, 5], data: [...wave(1, [4, 5]).data, ...wave(2, [4, 5]).data] };
    const out = await run(pair, (z) => {
      const { loss, metrics } = vicregLoss(z, vicreg.defaults);
      return { loss, ...metrics };
    });
    close(out.reprLoss![0]!, 0.4449185061);
    close(out.stdLoss![0]!, 0.3578565061);
    close(out.covLoss![0]!, 0.8390986464);
    close(out.loss![0]!, 20.9084754726);
  });
  it("is 0 where views agree and dimensions vary enough without saying the same", async () => {
    // columns of a Hadamard matrix: mean 0, uncorrelated, variance 4·4/3
    const h = [1, -1, 1, -1, 1, 1, -1, -1, 1, -1, -1, 1].map((v) => 2 * v);
    const rows = Array.from({ length: 12 }, (_, i) => h[(i % 3) * 4 + Math.floor(i / 3)]!);
    const out = await run({ shape: [2, 4, 3], data: [...rows, ...rows] }, (z) => ({
      loss: vicregLoss(z, vicreg.defaults).loss,
    }));
    close(out.loss![0]!, 0);
  });
  it("has one covariance through D×D and through B×B, that of plain loops", async () => {
    for (const [b, d] of [
      [9, 4],
      [4, 9],
    ] as const) {
      const z = normal([2, b, d], b);
      const naive = [0, 1].reduce((sum, v) => {
        const row = (i: number, j: number) => z.data[(v * b + i) * d + j]!;
        const mean = Array.from(
          { length: d },
          (_, j) => Array.from({ length: b }, (_, i) => row(i, j)).reduce((s, x) => s + x) / b,
        );
        for (let j = 0; j < d; j++)
          for (let k = 0; k < d; k++) {
            let c = 0;
            for (let i = 0; i < b; i++) c += (row(i, j) - mean[j]!) * (row(i, k) - mean[k]!);
            if (j !== k) sum += (c / (b - 1)) ** 2 / d;
          }
        return sum;
      }, 0);
      const out = await run(z, (x) => ({ cov: vicregLoss(x, vicreg.defaults).metrics.covLoss }));
      close(out.cov![0]!, naive);
    }
  });
  it("refuses one view, and one image", () => {
    const z = (v: number, b: number) => input("z", "float32", [v, b, 4]);
    assert.throws(
      () => vicregLoss(z(1, 8), vicreg.defaults),
      /VICReg compares at least 2 views of at least 2 images, got 1 views of 8 images\./,
    );
    assert.throws(() => vicregLoss(z(2, 1), vicreg.defaults), /got 2 views of 1 images\./);
  });
});

describe("BagSSL's objectives", () => {
  it("tcr equals NMCE's loss computed by NumPy from the same rows", async () => {
    const pair = { shape: [2, 4, 5], data: [...wave(1, [4, 5]).data, ...wave(2, [4, 5]).data] };
    const out = await run(pair, lossOf(bagssl as never, bagssl.defaults));
    close(out.loss![0]!, -20.6422806756);
  });
  it("measure the agreement of every pair of patches", async () => {
    const [v, b, d] = [4, 3, 6];
    const z = normal([v, b, d]);
    const at = (p: number, i: number) => z.data.slice((p * b + i) * d, (p * b + i + 1) * d);
    const cos = (x: number[], y: number[]) =>
      x.reduce((s, a, k) => s + a * y[k]!, 0) / (Math.hypot(...x) * Math.hypot(...y));
    let sum = 0;
    for (let p = 0; p < v; p++)
      for (let q = 0; q < v; q++) if (p !== q) for (let i = 0; i < b; i++) sum += cos(at(p, i), at(q, i));
    const out = await run(z, (x) => ({ agreement: pairAgreement(l2normalize(x)) }));
    close(out.agreement![0]!, sum / (v * (v - 1) * b));
  });
  it("cooccurrence is 2w times the spectral loss at λ = w/2, and a constant: the theorem of the paper", async () => {
    const [b, d, w] = [6, 5, 1.7];
    const z = normal([2, b, d], 5);
    const out = await run(z, (x) => ({ loss: cooccurrence(pairsOf(x), w).loss }));
    const inner = (i: number, j: number) =>
      Array.from({ length: d }, (_, k) => z.data[i * d + k]! * z.data[(b + j) * d + k]!).reduce((s, v) => s + v);
    let spectralLoss = 0;
    for (let i = 0; i < b; i++) {
      spectralLoss -= inner(i, i) / b;
      for (let j = 0; j < b; j++) spectralLoss += ((w / 2) * inner(i, j) ** 2) / (b * b);
    }
    close(out.loss![0]!, 2 * w * spectralLoss + b);
  });
  it("all give finite losses and gradients through their own heads", async () => {
    for (const objective of ["tcr", "vicreg", "spectral", "cooccurrence", "covariance"] as const) {
      const out = await run(normal([3, 4, 6], 1), lossOf(bagssl as never, { ...bagssl.defaults, objective }));
      assert.ok([...out.loss!, ...out.grad!].every(Number.isFinite), objective);
    }
  });
});

describe("patches", () => {
  const views = (options: object, name: "tcr" | "bagssl" = "bagssl") =>
    (methods[name] as unknown as Method<object>).views({ ...methods[name].defaults, ...options }, 32);
  it("are squares of one scale", () => {
    const [view] = views({ patches: 5, patchScale: 0.1 });
    assert.equal(view!.count, 5);
    assert.deepEqual(view!.crop, { scale: [0.1, 0.1], ratio: [1, 1] });
  });
  it("larger than the image are refused", () => {
    const sentence =
      "A patch cannot be larger than its image: expected patchScale, its share of the area, above 0 and at most 1 but received 1.5.";
    for (const name of ["tcr", "bagssl"] as const)
      assert.throws(() => views({ patchScale: 1.5 }, name), { message: sentence });
  });
  it("alone are refused", () => {
    assert.throws(() => views({ patches: 1 }), /expected a whole number of at least 2 for patches but received 1\./);
  });
  it("with an objective that does not exist name the ones that do", () => {
    assert.throws(
      () => views({ objective: "tcrr" }),
      /Unknown objective "tcrr"\. Did you mean tcr\? Available: cooccurrence, covariance, spectral, tcr, vicreg\./,
    );
  });
});

describe("l2normalize", () => {
  it("leaves a row of zeros at zero, with a gradient that is finite", async () => {
    const out = await run({ shape: [2, 2], data: [0, 0, 3, 4] }, (x) => ({ y: l2normalize(x) }));
    out.y!.forEach((v, i) => close(v, [0, 0, 0.6, 0.8][i]!));
    assert.ok(out.grad!.every(Number.isFinite));
  });
});
