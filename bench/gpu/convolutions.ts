/** npm run gpu -- --convolutions: how long the forms of a convolution and of its gradients take, at the shapes of a ResNet-50. */
import type { Engine } from "../../src/engines/index.js";
import { input, type Value } from "../../src/onnx/graph.js";
import { toModel } from "../../src/onnx/model.js";
import { Add, Cast, Concat, Mul, Reshape, Slice, Transpose } from "../../src/ops/index.js";
import { random } from "../../src/random.js";
import { sizeOf, tensor, type Tensor, type Tensors } from "../../src/tensor.js";
import { checking } from "./check.js";
import { channelsFirst, forms, type Operands } from "./forms.js";

/** A convolution of stride 1: channels of x and of y, side of both, side of the kernel. */
export type Layer = readonly [from: number, to: number, side: number, kernel: 1 | 3];
const narrowing: Layer[] = [64, 128, 256, 512].map((c, i) => [4 * c, c, 56 >> i, 1]);
const widening: Layer[] = narrowing.map(([from, to, side, kernel]) => [to, from, side, kernel]);
const square: Layer[] = narrowing.map(([, c, side]) => [c, c, side, 3]);
/** One of each kind in a ResNet-50 at 224 px. */
export const resnetLayers = [...narrowing, ...widening, ...square];

/** Operands made on the device out of small inputs: x = rows·cells + bands, likewise dy. */
function operandsOf([from, to, side, kernel]: Layer, n: number, dtype: "float32" | "float16") {
  const inputs: Value[] = [];
  const given = (name: string, shape: number[]): Value => {
    inputs.push(input(name, "float32", shape));
    return inputs.at(-1)!;
  };
  const image = (name: string, c: number): [first: Value, last: Value] => {
    const [row, cell, band] = [
      given(`${name}.rows`, [n, c]),
      given(`${name}.cells`, [side, side]),
      given(`${name}.bands`, [side, c]),
    ];
    const first = Add(Mul(Reshape(row, [n, c, 1, 1]), cell), Reshape(Transpose(band), [1, c, side, 1]));
    const last = Add(Mul(Reshape(row, [n, 1, 1, c]), Reshape(cell, [side, side, 1])), Reshape(band, [side, 1, c]));
    return [Cast(first, dtype), Cast(last, dtype)];
  };
  const [[x, xLast], [dy, dyLast]] = [image("x", from), image("dy", to)];
  const w = Cast(given("w", [to, from, kernel, kernel]), dtype);
  const operands: Operands = { x, xLast, dy, dyLast, w, kernel, pads: Array<number>(4).fill((kernel - 1) / 2) };
  const drawn = ({ name, shape }: Value): [string, Tensor] => {
    const r = random(0, name!);
    return [
      name!,
      tensor(
        "float32",
        shape as number[],
        Array.from({ length: sizeOf(shape as number[]) }, () => r.normal()),
      ),
    ];
  };
  return { operands, inputs, feeds: Object.fromEntries(inputs.map(drawn)) };
}

export interface Timed {
  layer: string;
  what: string;
  form: string;
  /** Least of the runs, with the making of the operands, which the form "operands" is alone; or why there is none. */
  ms: number | string;
}

/** Each form against the first of its kind, in float32 on two images; then its time at the batch, in float16 on a card. */
export async function measureConvolutions(engine: Engine, layers: readonly Layer[], batch: number, runs: number) {
  const check = checking("forms of convolutions");
  const times: Timed[] = [];
  async function run({ inputs, feeds }: { inputs: Value[]; feeds: Tensors }, y: Value, again = 0) {
    const session = await engine.session(toModel({ inputs, outputs: { y } }));
    let ms = Infinity;
    const out = (await session.run(feeds)).y!;
    for (let i = 0; i < again; i++) {
      const began = performance.now();
      await session.run(feeds);
      ms = Math.min(ms, performance.now() - began);
    }
    session.release();
    return { out, ms };
  }
  /** All of it is computed, and one row of one image comes back. */
  const corner = (y: Value): Value => Slice(y, { starts: [0, 0], ends: [1, 1], axes: [0, 1] });
  for (const l of layers) {
    const layer = `${l[3]}×${l[3]}, ${l[0]} → ${l[1]}, ${l[2]} px`;
    const small = operandsOf(l, 2, "float32");
    const large = operandsOf(l, batch, engine.device === "cuda" ? "float16" : "float32");
    for (const [what, all] of Object.entries(forms)) {
      let expected: Tensor | undefined;
      for (const [form, { kernel, cuda, last, of }] of Object.entries(all)) {
        if (kernel && kernel !== l[3]) continue;
        const timed = async (): Promise<number> => {
          if (cuda && engine.device !== "cuda") throw new Error("left out: its kernel is a card's");
          const y = of(small.operands);
          const { out } = await run(small, last ? channelsFirst(y) : y);
          expected ??= out;
          check.compare(`${layer}, ${what}: ${form}`, out.data, expected.data, 1e-4);
          return (await run(large, corner(of(large.operands)), runs)).ms;
        };
        times.push({ layer, what, form, ms: await timed().catch((e: Error) => e.message.slice(0, 200)) });
      }
    }
    const { x, dy } = large.operands;
    const both = Concat(
      [x, dy].map((v) => Reshape(corner(v), [-1])),
      { axis: 0 },
    );
    times.push({ layer, what: "all", form: "operands", ms: (await run(large, both, runs)).ms });
  }
  return { check: check.found, times };
}
