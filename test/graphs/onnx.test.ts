import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { encoderModel, initialWeights, network, networkIn } from "../../graphs/encoder.js";
import { methods } from "../../graphs/methods/index.js";
import { optimizers } from "../../graphs/optimizers.js";
import { rootScope, type Collected } from "../../graphs/scope.js";
import { trainingStep } from "../../graphs/step.js";
import { packageStep } from "../../src/artifacts/index.js";
import { gradients } from "../../src/autodiff.js";
import { importGraph } from "../../src/importer.js";
import { constantOf, input, type Dialect } from "../../src/onnx/graph.js";
import { readInitializers, readModel, toModel } from "../../src/onnx/model.js";
import { Add, Mul, NonZero, ReduceSum } from "../../src/ops/index.js";
import { random } from "../../src/random.js";
import { initialTensors } from "../../src/step.js";
import { tensor, zeros, type Tensor, type Tensors } from "../../src/tensor.js";
import { plainOnTraining, trainingEngine } from "../engine.js";
import { evaluate } from "../evaluate.js";
import { judged } from "../judged.js";
import { tinyInfo } from "../tinyRun.js";

const path = (name: string): string => fileURLToPath(new URL(`../../../test/fixtures/${name}.onnx`, import.meta.url));
const bytesOf = (name: string): Buffer => readFileSync(path(name));
const optionsOf = (name: string, output = "") => ({ file: name, output, model: bytesOf(name) });

function noise(shape: readonly number[], salt: string, scale = 1): Tensor {
  const t = zeros("float32", shape);
  const r = random(3, salt);
  for (let i = 0; i < t.data.length; i++) t.data[i] = scale * r.normal();
  return t;
}
const dot = (a: Tensor, b: Tensor): number =>
  (a.data as Float32Array).reduce((sum, v, i) => sum + v * Number(b.data[i]), 0);
const along = (x: Tensor, v: Tensor, h: number): Tensor =>
  tensor(
    "float32",
    x.shape,
    (x.data as Float32Array).map((a, i) => a + h * Number(v.data[i])),
  );
/** What a scope collected, at its initial values. */
const started = ({ parameters, states }: Collected): Tensors =>
  initialTensors(
    {
      parameters: [...parameters.values()],
      state: [...states].map(([name, { input, init }]) => ({ name, input, init, next: input })),
    },
    0,
  );
const inputsOf = ({ parameters, states }: Collected) => [
  ...[...parameters.values()].map((p) => p.value),
  ...[...states.values()].map((s) => s.input),
];

/** name, image [C,H,W], D */
const files: [name: string, shape: [number, number, number], width: number][] = [
  ["mobilenetV2", [3, 32, 32], 8],
  ["mobilenetV3", [3, 32, 32], 96],
  ["convnext", [3, 32, 32], 12],
  ["convnext13", [3, 32, 32], 8],
  ["yolo", [1, 32, 32], 12],
  ["shuffle", [4, 16, 16], 8],
  ["shuffleFixed", [4, 16, 16], 8],
  ["vit", [3, 16, 16], 6],
  ["pools", [3, 26, 26], 8],
];

describe("an ONNX file as a backbone", () => {
  for (const [name, size] of files)
    it(`${name} gives what onnxruntime-node makes of it`, async () => {
      const image = noise([1, ...size], name);
      const { y } = judged(path(name), image);
      const { scope, collected } = rootScope("portable", "eval");
      const x = input("x", "float32", [1, ...size]);
      const { outputs } = importGraph(bytesOf(name), x, {
        parameter: (n, t) => scope.parameter(n, t.shape, { name: "values", data: t.data as Float32Array }),
        batchNorm: (v, w, { epsilon }) => {
          const [scale, bias, mean, variance] = [w.scale, w.bias, w.mean, w.variance].map((t) => constantOf(t.value));
          const inverse = w.variance.value.data as Float32Array;
          // by hand: scale/√(variance + ε) and shift, one number a channel
          const factor = Float32Array.from(
            inverse,
            (s, i) => Number(scale!.constant!.data[i]) / Math.sqrt(s + epsilon),
          );
          const shift = factor.map((f, i) => Number(bias!.constant!.data[i]) - f * Number(mean!.constant!.data[i]));
          const column = (values: Float32Array) =>
            constantOf(tensor("float32", [1, variance!.shape[0] as number, 1, 1], values));
          return Add(Mul(v, column(factor)), column(shift));
        },
      });
      const got = await evaluate(
        await trainingEngine(),
        [x, ...inputsOf(collected)],
        { y: outputs[0]! },
        { x: image, ...started(collected) },
      );
      assert.deepEqual([...got.y!.shape], y!.dims);
      y!.data.forEach((v, i) =>
        assert.ok(Math.abs(v - Number(got.y!.data[i])) < 1e-4 * (1 + Math.abs(v)), `y[${i}]: ${v}`),
      );
    });

  it("finds the last feature map, before pooling and what follows it", () => {
    for (const [name, size, width] of files) {
      const { backbone, options } = network("onnx", optionsOf(name));
      const { scope } = rootScope("portable", "eval");
      const { map, features } = backbone.forward(scope, input("x", "float32", [2, ...size]), options);
      assert.deepEqual(
        [map.shape.slice(0, 2), features.shape],
        [
          [2, width],
          [2, width],
        ],
        name,
      );
      assert.ok((map.shape[2] as number) >= 1, name);
      assert.equal(network("onnx", optionsOf(name)).width, width);
    }
  });
  it("takes any value of the file as its map, and lists them where the name is none", () => {
    const { scope } = rootScope("portable", "eval");
    const forward = (output: string) => {
      const { backbone, options } = network("onnx", optionsOf("yolo", output));
      return backbone.forward(scope, input("x", "float32", [1, 1, 32, 32]), options).map.shape;
    };
    const named = readModel(bytesOf("yolo"));
    assert.ok(named.ops.includes("Resize"));
    assert.deepEqual(forward("/pool/MaxPool_output_0"), [1, 8, 4, 4]);
    assert.throws(() => forward("nowhere"), /has no value "nowhere"\. Its last maps are .*y\./);
  });
  it("shares no weight that the file stores once for several", () => {
    const { scope, collected } = rootScope("training");
    const { backbone, options } = network("onnx", optionsOf("mobilenetV2"));
    backbone.forward(scope, input("x", "float32", [2, 3, 32, 32]), options);
    const bns = [...collected.states.keys()].filter((n) => n.endsWith("running_var")).length;
    const scales = [...collected.parameters.keys()].filter((n) =>
      collected.states.has(n.replace(/weight$/, "running_var")),
    );
    assert.equal(scales.length, bns);
    const stored = readInitializers(bytesOf("mobilenetV2"));
    assert.deepEqual([...started(collected)["0.0.0.weight"]!.data], [...stored["0.0.0.weight"]!.data]);
  });

  /** ∇⟨g, map⟩ with batch statistics, and the loss at any weights. */
  async function differentiated(name: string, size: readonly number[], dialect: Dialect) {
    const engine = await plainOnTraining();
    const { scope, collected } = rootScope(dialect);
    const x = input("x", "float32", [4, ...size], { path: "", dialect });
    const { backbone, options } = network("onnx", optionsOf(name));
    const { map } = backbone.forward(scope, x, options);
    const loss = ReduceSum(Mul(map, constantOf(noise(map.shape as number[], "g"))), { keepdims: 0 });
    const parameters = [...collected.parameters.values()];
    const slopes = gradients(
      loss,
      parameters.map((p) => p.value),
    );
    const feeds: Tensors = { ...started(collected), x: noise([4, ...size], "x") };
    const inputs = [x, ...inputsOf(collected)];
    const gradient = await evaluate(engine, inputs, Object.fromEntries(slopes.map((v, i) => [`d${i}`, v])), feeds);
    const byName = Object.fromEntries(parameters.map((p, i) => [p.name, gradient[`d${i}`]!]));
    const lossAt = async (moved: Tensors): Promise<number> =>
      Number((await evaluate(engine, inputs, { loss }, { ...feeds, ...moved })).loss!.data[0]);
    return { gradient: byName, feeds, lossAt };
  }
  const norm = (tensors: Tensors): number => Math.sqrt(Object.values(tensors).reduce((sum, t) => sum + dot(t, t), 0));

  for (const [name, size] of files.filter(([n]) => /convnext|vit/.test(n)))
    it(`${name} has gradients that agree with differences, batch statistics included`, async () => {
      for (const dialect of ["portable", "training"] satisfies Dialect[]) {
        const { gradient, feeds, lossAt } = await differentiated(name, size, dialect);
        const direction = Object.fromEntries(Object.entries(gradient).map(([n, t]) => [n, noise(t.shape, n)]));
        const want = Object.entries(direction).reduce((sum, [n, v]) => sum + dot(v, gradient[n]!), 0);
        const at = (h: number) =>
          lossAt(Object.fromEntries(Object.entries(direction).map(([n, v]) => [n, along(feeds[n]!, v, h)])));
        const h = 5e-4;
        const got = ((await at(h)) - (await at(-h))) / (2 * h);
        assert.ok(Math.abs(got - want) < 0.02 * norm(gradient), `${dialect}: ${got} by differences, ${want} by rule`);
      }
    });
  for (const [name, size] of files.filter(([n]) => /mobilenet|shuffle|yolo|pools/.test(n)))
    it(`${name}, whose ReLUs or maxima have kinks, has equal gradients in both dialects`, async () => {
      const [a, b] = [await differentiated(name, size, "portable"), await differentiated(name, size, "training")];
      const apart = Object.fromEntries(Object.entries(a.gradient).map(([n, t]) => [n, along(t, b.gradient[n]!, -1)]));
      assert.ok(norm(a.gradient) > 1);
      assert.ok(norm(apart) < 1e-3 * norm(a.gradient), `${norm(apart)} apart of ${norm(a.gradient)}`);
    });

  it("trains, and is exported with what it learned", async () => {
    const engine = await trainingEngine();
    const { backbone, options } = network("onnx", optionsOf("shuffleFixed"));
    const step = trainingStep({
      dialect: "training",
      method: methods.simclr as never,
      methodOptions: { ...methods.simclr.defaults, hiddenDim: 16, outDim: 8 },
      network: (s, image) => backbone.forward(s, image, options),
      optimizer: optimizers.sgd as never,
      optimizerOptions: optimizers.sgd.defaults,
      batchSize: 8,
      size: 16,
      channels: 4,
    });
    const start = initialTensors(step, 0);
    const session = await engine.trainingSession(packageStep(step, start, ["training"]));
    await session.step({ views: noise([2, 8, 4, 16, 16], "views") }, { lr: 0.1 });
    const trained = session.tensors();
    session.release();
    for (const name of ["conv.weight", "bn.weight", "bn.running_var", "depth.bias"])
      assert.notDeepEqual(trained[`student.backbone.${name}`]!.data, start[`student.backbone.${name}`]!.data, name);

    const info = tinyInfo("onnx", options, { mean: [0, 0, 0, 0], std: [1, 1, 1, 1] });
    const dir = mkdtempSync(join(tmpdir(), "onnx-"));
    const stored = Object.fromEntries(Object.entries(start).map(([n, t]) => [n.replace("student.backbone.", ""), t]));
    const bytes = encoderModel(info, stored);
    assert.equal(networkIn(bytes), undefined, "an encoder that does not hold its file is judged as a graph");
    writeFileSync(join(dir, "encoder.onnx"), bytes);
    assert.ok(readModel(bytes).metadata.diptych!.length < 400, "the file itself stays out of the metadata");
    const image = noise([1, 4, 16, 16], "image");
    const [ours, theirs] = [judged(join(dir, "encoder.onnx"), image).features!, judged(path("shuffleFixed"), image).y!];
    ours.data.forEach((v, i) => assert.ok(Math.abs(v - theirs.data[i]!) < 1e-4 * (1 + Math.abs(v)), `features[${i}]`));
    assert.deepEqual(judged(join(dir, "encoder.onnx"), noise([3, 4, 16, 16], "three")).features!.dims, [3, 8]);
    rmSync(dir, { recursive: true });
  });

  it("keeps the batch of a transformer open, on whatever batch it was exported", () => {
    const options = optionsOf("vit");
    const info = tinyInfo("onnx", options, { mean: [0, 0, 0], std: [1, 1, 1] });
    const dir = mkdtempSync(join(tmpdir(), "onnx-"));
    writeFileSync(join(dir, "encoder.onnx"), encoderModel(info, initialWeights(info, 0)));
    const images = noise([3, 3, 16, 16], "three");
    const [ours, theirs] = [judged(join(dir, "encoder.onnx"), images).features!, judged(path("vit"), images).y!];
    assert.deepEqual(ours.dims, [3, 6]);
    ours.data.forEach((v, i) => assert.ok(Math.abs(v - theirs.data[i]!) < 1e-4 * (1 + Math.abs(v)), `features[${i}]`));
    rmSync(dir, { recursive: true });
  });
  it("takes three channels as grey where the file takes one", () => {
    const { backbone, options } = network("onnx", optionsOf("yolo"));
    const { features } = backbone.forward(
      rootScope("portable", "eval").scope,
      input("x", "float32", ["B", 3, 32, 32]),
      options,
    );
    assert.deepEqual(features.shape, ["B", 12]);
  });
  it("names the node whose op has no rule, and other mistakes", () => {
    const x = input("x", "float32", [1, 3, 8, 8]);
    const forward = (model: Uint8Array, image = x) => {
      const { backbone, options } = network("onnx", { file: "f.onnx", output: "", model });
      return backbone.forward(rootScope("portable", "eval").scope, image, options);
    };
    const odd = toModel({ inputs: [x], outputs: { y: NonZero(x) } });
    assert.throws(() => forward(odd), /NonZero at node "y\/node": there is no rule for this op\. Known are Abs, Add/);
    assert.throws(() => forward(bytesOf("shuffle")), /The model takes x \[B,4,16,16\], but the images are \[1,3,8,8\]/);
    assert.throws(() => forward(Buffer.from("text")), /Not an ONNX model/);
    const two = toModel({
      inputs: [x, input("z", "float32", [1, 3, 8, 8])],
      outputs: { y: Add(x, input("z", "float32", [1, 3, 8, 8])) },
    });
    assert.throws(() => forward(two), /Expected a model with one input, the image, but it has x, z\./);
  });
});
