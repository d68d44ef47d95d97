import assert from "node:assert/strict";
import { gradients } from "../src/autodiff.js";
import { constant, input } from "../src/onnx/graph.js";
import { toModel } from "../src/onnx/model.js";
import {
  Add,
  LayerNormalization,
  MatMul,
  Mod,
  Mul,
  Neg,
  ReduceMax,
  ReduceSum,
  stopGradient,
} from "../src/ops/index.js";
import { scalar, tensor } from "../src/tensor.js";
import { portableEngine } from "./engine.js";
import { evaluate } from "./evaluate.js";

const origin = { path: "student.blocks.3.attn", dialect: "portable" } as const;

describe("gradients", () => {
  it("adds up the paths by which a value reaches the loss", async () => {
    const x = input("x", "float32", []);
    const [dx] = gradients(Add(Mul(x, x), Mul(x, 3)), [x]);
    const { d } = await evaluate(portableEngine(), [x], { d: dx! }, { x: scalar(5) });
    assert.equal(Number(d!.data[0]), 13);
  });
  it("stops at stopGradient", async () => {
    const x = input("x", "float32", []);
    const [dx] = gradients(Mul(x, stopGradient(x)), [x]);
    const { d } = await evaluate(portableEngine(), [x], { d: dx! }, { x: scalar(5) });
    assert.equal(Number(d!.data[0]), 5);
  });
  it("gives zeros to what the loss does not read", async () => {
    const [x, y] = [input("x", "float32", [2]), input("y", "float32", [3])];
    const [, dy] = gradients(ReduceSum(x, { keepdims: 0 }), [x, y]);
    const { d } = await evaluate(portableEngine(), [x], { d: dy! }, { x: tensor("float32", [2], [1, 2]) });
    assert.deepEqual([...d!.data], [0, 0, 0]);
  });
  it("differentiates gradients again", async () => {
    const x = input("x", "float32", []);
    const [first] = gradients(Mul(x, Mul(x, x)), [x]);
    const [second] = gradients(first!, [x]);
    const { d } = await evaluate(portableEngine(), [x], { d: second! }, { x: scalar(2) });
    assert.equal(Number(d!.data[0]), 12);
  });
  it("shares a tied maximum as PyTorch's amax does", async () => {
    const x = input("x", "float32", [4]);
    const [dx] = gradients(ReduceMax(x, { keepdims: 0 }), [x]);
    const { d } = await evaluate(portableEngine(), [x], { d: dx! }, { x: tensor("float32", [4], [1, 3, 3, 0]) });
    assert.deepEqual([...d!.data], [0, 0.5, 0.5, 0]);
  });
  it("walks a chain of 20,000 nodes", () => {
    let y = input("x", "float32", []);
    const x = y;
    for (let i = 0; i < 20_000; i++) y = Neg(y);
    const [dx] = gradients(y, [x]);
    assert.ok(toModel({ inputs: [x], outputs: { y, dx: dx! } }).length > 100_000);
  });
  it("names the op without a rule and its place", () => {
    const a = input("a", "float32", [], { path: "detector.nms", dialect: "portable" });
    assert.throws(
      () => gradients(Mod(a, 2), [a]),
      /No gradient for Mod at detector\.nms\. Give it a vjp in src\/ops\/, or cut the path with stopGradient\(x\)\./,
    );
  });
  it("refuses a gradient through an output that has none", () => {
    const x = input("x", "float32", [3], origin);
    const ones = constant([3], [1, 1, 1]);
    const mean = LayerNormalization(x, ones, ones)[1];
    assert.throws(
      () => gradients(ReduceSum(mean, { keepdims: 0 }), [x]),
      /No gradient for output 1 of LayerNormalization at student\.blocks\.3\.attn/,
    );
  });
  it("asks for a scalar", () => {
    const x = input("x", "float32", [3]);
    assert.throws(() => gradients(x, [x]), /Expected a scalar loss but received shape \[3\]\./);
  });
});

describe("building a graph", () => {
  it("says where shapes do not fit, and both shapes", () => {
    const x = input("x", "float32", [64, 197, 192], origin);
    const w = input("student.blocks.3.attn.w", "float32", [384, 192], origin);
    assert.throws(() => MatMul(x, w), {
      message:
        "student.blocks.3.attn: MatMul needs equal inner dimensions, got float32[64,197,192] × float32[384,192].",
    });
    assert.throws(() => Add(x, w), {
      message:
        "student.blocks.3.attn: Add cannot broadcast dim 197 with 384, got float32[64,197,192] × float32[384,192].",
    });
  });
});
