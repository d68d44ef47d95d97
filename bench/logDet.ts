/** npm run bench -- logdet: ways to log det and inverse of I + c·ZZᵀ [P,n,n] inside a graph, timed and compared with float64. */
import { availableParallelism } from "node:os";
import { factored } from "../graphs/codingRate.js";
import { openEngine, type NativeEngine } from "../src/engines/native/index.js";
import { constant, input, type Value } from "../src/onnx/graph.js";
import { toModel } from "../src/onnx/model.js";
import {
  Add,
  Div,
  Log,
  MatMul,
  Mul,
  ReduceMax,
  ReduceSum,
  Abs,
  Slice,
  Sub,
  Squeeze,
  transposed,
} from "../src/ops/index.js";
import { random } from "../src/random.js";
import { trainingLibrary } from "../src/runtimes.js";
import { tensor, type DType } from "../src/tensor.js";

interface Inverted {
  /** A⁻¹ [P,n,n] */
  inverse: Value;
  logDet: Value;
}

/** The product's way: Cholesky by halves, A⁻¹ = L⁻ᵀ·L⁻¹. */
function byHalves(a: Value): Inverted {
  const { factor, logDet } = factored(a);
  return { inverse: MatMul(transposed(factor), factor), logDet };
}

const identity = (n: number, scale: number, dtype: DType): Value =>
  constant(
    [n, n],
    Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? scale : 0)),
    dtype,
  );

/** LDLᵀ column by column as the sweep operator: A ← A − uᵀu/d with u = A[k,:] − e_k, d = A[k,k]; at the end A⁻¹ = 2I − A. */
function swept(a: Value): Inverted {
  const n = a.shape.at(-1) as number;
  let rest = a;
  let logDet: Value | undefined;
  for (let k = 0; k < n; k++) {
    const row = Slice(rest, { starts: [k], ends: [k + 1], axes: [1] });
    const d = Slice(row, { starts: [k], ends: [k + 1], axes: [2] });
    const u = Sub(
      row,
      constant(
        [1, n],
        Array.from({ length: n }, (_, i) => Number(i === k)),
        a.dtype,
      ),
    );
    rest = Sub(rest, Mul(transposed(u), Div(u, d)));
    const log = Squeeze(Log(d), [1, 2]);
    logDet = logDet ? Add(logDet, log) : log;
  }
  return { inverse: Sub(identity(n, 2, a.dtype), rest), logDet: logDet! };
}

/** X ← X(2I − AX) from Aᵀ/(‖A‖₁‖A‖_∞); the inverse only, log det would cost more on top. 30 rounds: condition 5000 in float32. */
function newtonSchulz(a: Value): Inverted {
  const n = a.shape.at(-1) as number;
  const norm = ReduceMax(ReduceSum(Abs(a), { axes: [1] }), { axes: [2] });
  let x = Div(a, Mul(norm, norm));
  for (let i = 0; i < 30; i++) x = MatMul(x, Sub(identity(n, 2, a.dtype), MatMul(a, x)));
  return { inverse: x, logDet: ReduceSum(x, { axes: [1, 2], keepdims: 0 }) };
}

const ways = { "Cholesky by halves": byHalves, swept, "Newton–Schulz (inverse only)": newtonSchulz };

/** Rows [P,n,d] of unit length; `spread` 0: all rows of a patch are one. */
function rows(p: number, n: number, d: number, spread: number): number[] {
  const r = random(0, "rows", spread * 1000);
  const out: number[] = [];
  for (let i = 0; i < p; i++) {
    const centre = Array.from({ length: d }, () => r.normal());
    for (let k = 0; k < n; k++) {
      const row = centre.map((v) => (1 - spread) * v + spread * r.normal());
      const norm = Math.hypot(...row);
      out.push(...row.map((v) => v / norm));
    }
  }
  return out;
}

async function once(
  engine: NativeEngine,
  way: (a: Value) => Inverted,
  dtype: DType,
  p: number,
  n: number,
  d: number,
  spread: number,
) {
  const z = input("z", dtype, [p, n, d]);
  const a = Add(Mul(MatMul(z, transposed(z)), d / (n * 0.2)), identity(n, 1, dtype));
  const { inverse, logDet } = way(a);
  const model = toModel({ inputs: [z], outputs: { gradient: MatMul(inverse, z), logDet } });
  const session = await engine.session(model);
  const feeds = { z: tensor(dtype, [p, n, d], rows(p, n, d, spread)) };
  let best = Infinity;
  let out = await session.run(feeds);
  for (let i = 0; i < 7; i++) {
    const start = performance.now();
    out = await session.run(feeds);
    best = Math.min(best, performance.now() - start);
  }
  session.release();
  return {
    best,
    gradient: out.gradient!.data as Float32Array,
    logDet: out.logDet!.data as Float32Array,
    bytes: model.length,
  };
}

const apart = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let [off, largest] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    off = Math.max(off, Math.abs(a[i]! - b[i]!));
    largest = Math.max(largest, Math.abs(b[i]!));
  }
  return off / largest;
};

export async function main(): Promise<void> {
  const library = await trainingLibrary();
  const engine = openEngine({ library, name: "portable", threads: availableParallelism() });
  for (const [p, n, d] of [
    [2, 128, 128],
    [20, 100, 1024],
    [200, 100, 1024],
  ] as const)
    for (const spread of [1, 0]) {
      const exact = await once(engine, byHalves, "float64", p, n, d, spread);
      for (const [name, way] of Object.entries(ways)) {
        const got = await once(engine, way, "float32", p, n, d, spread);
        process.stdout.write(
          `[${p},${n},${d}] ${spread ? "random" : "collapsed"} ${name}: ${got.best.toFixed(1)} ms, gradient off by ${apart(got.gradient, exact.gradient).toExponential(1)}, ` +
            `log det by ${name.startsWith("N") ? "–" : apart(got.logDet, exact.logDet).toExponential(1)}, model ${(got.bytes / 1e6).toFixed(2)} MB\n`,
        );
      }
    }
}
