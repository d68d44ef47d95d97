import assert from "node:assert/strict";
import type { NativeEngine } from "../../src/engines/native/index.js";
import { dims, type Dialect } from "../../src/onnx/graph.js";
import { random } from "../../src/random.js";
import { tensor, type DType, type Tensor } from "../../src/tensor.js";
import { plainOnTraining } from "../engine.js";
import { evaluate } from "../evaluate.js";
import { like, prepared, reversed, seed } from "./reversed.js";
import { samples, type Sample } from "./samples.js";

const dot = (a: Tensor, b: Tensor): number =>
  Array.from(a.data as Float64Array, (v, i) => v * Number(b.data[i])).reduce((s, v) => s + v, 0);
const moved = (x: Tensor, v: Tensor, h: number): Tensor =>
  tensor(
    x.dtype,
    x.shape,
    Array.from(x.data as Float64Array, (a, i) => a + h * Number(v.data[i])),
  );

/** A sample's output and gradients. */
async function reverse(engine: NativeEngine, sample: Sample, dtype: DType, dialect: Dialect, salt: string) {
  const graph = reversed(sample, dtype, dialect, salt);
  const out = await evaluate(engine, graph.inputs, graph.outputs, graph.feeds);
  assert.deepEqual([...out.y!.shape], dims(graph.y), "the inferred shape is the runtime's");
  return { ...graph, out };
}

/** ⟨v, Jᵀg⟩ against ⟨g, (f(x + hv) − f(x − hv))/2h⟩, second or fourth order. */
async function againstDifferences(
  engine: NativeEngine,
  sample: Sample,
  dtype: DType,
  dialect: Dialect,
  salt: string,
): Promise<void> {
  const { inputs, feeds, free, y, g, out } = await reverse(engine, sample, dtype, dialect, salt);
  const r = random(seed, salt, "v");
  const [h, tolerance] = dtype === "float64" ? [1e-5, 1e-6] : [3e-2, 1e-3];
  for (const i of free) {
    const v = like(r, feeds[`x${i}`]!);
    const along = async (step: number): Promise<number> =>
      dot((await evaluate(engine, inputs, { y }, { ...feeds, [`x${i}`]: moved(feeds[`x${i}`]!, v, step) })).y!, g);
    const central = async (step: number): Promise<number> => ((await along(step)) - (await along(-step))) / (2 * step);
    const numeric = dtype === "float64" ? await central(h) : (4 * (await central(h / 2)) - (await central(h))) / 3;
    const analytic = dot(out[`d${i}`]!, v);
    assert.ok(
      Math.abs(analytic - numeric) <= tolerance * (1 + Math.abs(numeric)),
      `input ${i} (seed ${seed}): vjp ${analytic}, differences ${numeric}`,
    );
  }
}

/** ⟨v, Jᵀg⟩ = ⟨Jv, g⟩ for an op linear in each argument. */
async function byAdjoint(engine: NativeEngine, sample: Sample, dialect: Dialect, salt: string): Promise<void> {
  const { inputs, feeds, free, y, g, out } = await reverse(engine, sample, "float32", dialect, salt);
  const base = dot(out.y!, g);
  for (const i of free) {
    const v = like(random(seed, salt, "v", i), feeds[`x${i}`]!);
    const shifted = dot(
      (await evaluate(engine, inputs, { y }, { ...feeds, [`x${i}`]: moved(feeds[`x${i}`]!, v, 1) })).y!,
      g,
    );
    const analytic = dot(out[`d${i}`]!, v);
    assert.ok(
      Math.abs(analytic - (shifted - base)) <= 2e-4 * (1 + Math.abs(base)),
      `input ${i} (seed ${seed}): ⟨v, Jᵀg⟩ ${analytic}, ⟨Jv, g⟩ ${shifted - base}`,
    );
  }
}

async function forwardOnly(engine: NativeEngine, sample: Sample, salt: string): Promise<void> {
  const { inputs, feeds } = prepared(sample, "float32", "portable", salt);
  const y = sample.build(...inputs);
  const out = await evaluate(engine, inputs, { y }, feeds);
  assert.deepEqual([...out.y!.shape], dims(y));
  assert.deepEqual(
    Array.from(out.y!.data as Float32Array, Number),
    sample.naive!(...inputs.map((v) => Array.from(feeds[v.name!]!.data as Float32Array, Number))).map(Math.fround),
  );
}

describe("reverse rules", () => {
  for (const [name, list] of Object.entries(samples) as [string, Sample[]][])
    list.forEach((sample, n) => {
      const salt = `${name}/${n}`;
      const shapes = sample.inputs.map((i) => `[${i.shape.join(",")}]`).join(" ");
      if (sample.check === "forward") {
        it(`${name} ${shapes} equals plain loops`, async () => forwardOnly(await plainOnTraining(), sample, salt));
        return;
      }
      it(`${name} ${shapes}: vjp agrees with ${sample.check === "linear" ? "its adjoint" : "differences"}`, async () => {
        const engine = await plainOnTraining();
        if (sample.check === "linear") await byAdjoint(engine, sample, "portable", salt);
        else await againstDifferences(engine, sample, sample.check as DType, "portable", salt);
      });
      it(`${name} ${shapes}: both dialects agree`, async () => {
        const engine = await plainOnTraining();
        const [portable, training] = [
          await reverse(engine, sample, "float32", "portable", salt),
          await reverse(engine, sample, "float32", "training", salt),
        ];
        for (const i of portable.free) {
          const [a, b] = [portable.out[`d${i}`]!, training.out[`d${i}`]!];
          const [p, t] = [a, b].map((d) => Array.from(d.data as Float32Array)) as [number[], number[]];
          const scale = 1 + Math.max(...p.map(Math.abs));
          p.forEach((v, k) =>
            assert.ok(Math.abs(v - t[k]!) <= 1e-5 * scale, `input ${i}[${k}]: portable ${v}, training ${t[k]}`),
          );
        }
      });
    });
});
