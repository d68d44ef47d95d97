import assert from "node:assert/strict";
import { methods, type MethodName } from "../../graphs/methods/index.js";
import { stepOf } from "../../cli/run.js";
import { recipes } from "../../cli/recipes/index.js";
import { resolveRecipe } from "../../cli/recipes/schema.js";
import { valuesOf } from "../../src/artifacts/index.js";
import { gradients } from "../../src/autodiff.js";
import { constant, input, nodesOf, type Device, type Node } from "../../src/onnx/graph.js";
import { toModel } from "../../src/onnx/model.js";
import { Add, ConvTranspose, MaxPool, Mul, ReduceSum, Where } from "../../src/ops/index.js";
import { withoutCudaKernel } from "../../src/ops/cuda.js";
import { random } from "../../src/random.js";
import { zeros } from "../../src/tensor.js";
import { plainOnTraining } from "../engine.js";
import { tinyStep } from "../tinyRun.js";

const types = (nodes: readonly Node[]): string[] => nodes.map((n) => n.op.type);

/** y = maxPool(x) with overlapping windows, and dx of Σ v·y, built for a device */
function pooling(device: Device) {
  const x = input("x", "float32", [2, 3, 7, 7], { path: "stem", dialect: "training", device });
  const v = input("v", "float32", [2, 3, 4, 4]);
  const [y] = MaxPool(x, { kernel: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] });
  const [dx] = gradients(ReduceSum(Mul(y, v), { keepdims: 0 }), [x]);
  return { inputs: [x, v], outputs: { y, dx: dx! } };
}

describe("a graph built for CUDA", () => {
  it("has MaxPool's gradient as a sum of scattered values, equal to the CPU's kernel", async () => {
    const [onCpu, onCuda] = [pooling("cpu"), pooling("cuda")];
    assert.ok(types(nodesOf([onCpu.outputs.dx])).includes("MaxPoolGrad"));
    assert.ok(!types(nodesOf([onCuda.outputs.dx])).includes("MaxPoolGrad"));
    const r = random(0, "pooling");
    const [x, v] = [zeros("float32", [2, 3, 7, 7]), zeros("float32", [2, 3, 4, 4])];
    for (const t of [x, v]) t.data.forEach((_, i) => (t.data[i] = r.normal()));
    const engine = await plainOnTraining();
    const [a, b] = await Promise.all(
      [onCpu, onCuda].map(async (graph) => (await (await engine.session(toModel(graph))).run({ x, v })).dx!.data),
    );
    assert.ok(a!.some((g) => Number(g) !== 0));
    a!.forEach((g, i) => assert.ok(Math.abs(Number(g) - Number(b![i])) < 1e-6, `at ${i}: ${g} and ${b![i]}`));
  });
  it("names nodes without a kernel with their scope: an op, an element type, an attribute", () => {
    const s = { path: "neck.up", dialect: "training", device: "cuda" } as const;
    const x = input("x", "float32", [1, 2, 4, 4], s);
    const w = input("w", "float32", [2, 2, 3, 3], s);
    const up = (pads: [number, number, number, number]) => ConvTranspose(x, w, { pads });
    const choice = (dtype: "float32" | "float64") => Where(input("c", "bool", [2], s), constant([2], [0, 0], dtype), 1);
    const found = (...values: Parameters<typeof withoutCudaKernel>[0]) =>
      withoutCudaKernel(values).map((n) => `${n.origin?.path} ${n.op.type}`);
    assert.deepEqual(found(pooling("cpu").outputs.dx), ["stem MaxPoolGrad"]);
    assert.deepEqual(found(up([1, 1, 1, 1]), choice("float32")), []);
    assert.deepEqual(found(up([1, 1, 0, 1]), choice("float64")), ["neck.up ConvTranspose", "neck.up Where"]);
  });
  for (const dialect of ["training", "portable"] as const)
    for (const method of Object.keys(methods) as MethodName[])
      it(`has a kernel for every node of a step: ${method}, ${dialect}`, () => {
        const networks = method === "aps" ? (["vit"] as const) : (["resnet", "vit", "geluResnet"] as const); // aps: patches only
        for (const which of networks)
          assert.deepEqual(types(withoutCudaKernel(valuesOf(tinyStep(method, dialect, which)))), []);
      });
  it("has one for every node of the listed recipes, where the step is built for it", () => {
    for (const { recipe } of Object.values(recipes)) {
      const resolved = resolveRecipe({ ...recipe, data: { ...recipe.data, root: "." } } as never);
      assert.deepEqual(types(withoutCudaKernel(valuesOf(stepOf(resolved, "training", "cuda")))), []);
    }
  });
  it("needs to be built for it where a network pools", () => {
    const recipe = resolveRecipe({
      ...recipes.sample.recipe,
      backbone: { name: "resnet18", stem: "imagenet" },
    } as never);
    const onCpu = (device: Device) => withoutCudaKernel(valuesOf(stepOf(recipe, "training", device)));
    assert.ok(types(onCpu("cpu")).every((t) => t === "MaxPoolGrad") && onCpu("cpu").length > 0);
    assert.deepEqual(onCpu("cuda"), []);
  });
  it("may add in any element type that has a kernel", () => {
    const sum = (dtype: "int64" | "bool") => Add(input("a", dtype, [2]), input("b", dtype, [2]));
    assert.deepEqual(
      [sum("int64"), sum("bool")].map((v) => withoutCudaKernel([v]).length),
      [0, 1],
    );
  });
});
