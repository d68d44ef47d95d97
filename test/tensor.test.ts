import assert from "node:assert/strict";
import { input } from "../src/onnx/graph.js";
import { Cast } from "../src/ops/index.js";
import { random } from "../src/random.js";
import { tensor, toFloat32, type Tensor } from "../src/tensor.js";
import { portableEngine } from "./engine.js";
import { evaluate } from "./evaluate.js";

const bitsOf = (t: Tensor): number[] => Array.from(t.data, Number);

for (const dtype of ["float16", "bfloat16"] as const)
  describe(`numbers as ${dtype}`, () => {
    it("are those that their bits stand for, for all bits", () => {
      const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
      const values = [...toFloat32({ dtype, shape: [65536], data: all }).data];
      const back = bitsOf(tensor(dtype, [65536], values));
      all.forEach((bits, i) => {
        if (Number.isNaN(values[i])) assert.ok(Number.isNaN(toFloat32(tensor(dtype, [1], [NaN])).data[0]));
        else assert.equal(back[i], bits, `${values[i]}`);
      });
    });
    it("are rounded as the runtime rounds, in the middle to the even one", async () => {
      const r = random(5, dtype);
      const middles = [
        1 + 2 ** -11,
        1 + 3 * 2 ** -11,
        1 + 2 ** -8,
        1 + 3 * 2 ** -8,
        65519,
        65520,
        2 ** -25,
        3 * 2 ** -25,
      ];
      const spread = Array.from({ length: 4000 }, () => r.normal() * 2 ** r.integer(40) * 2 ** -28);
      const values = [...middles, ...middles.map((v) => -v), ...spread].map(Math.fround);
      const x = input("x", "float32", [values.length]);
      const given = { x: tensor("float32", [values.length], values) };
      const { y } = await evaluate(portableEngine(), [x], { y: Cast(x, dtype) }, given);
      assert.deepEqual(bitsOf(tensor(dtype, [values.length], values)), bitsOf(y!));
    });
  });
