/** npm run bench -- knn [QUERIES] [BANK] [WIDTH]: nearest neighbours against the plain matrix product of that size, in alternating order. */
import { availableParallelism } from "node:os";
import { nearest } from "../evaluators/knn.js";
import { input } from "../src/onnx/graph.js";
import { toModel } from "../src/onnx/model.js";
import { Gemm } from "../src/ops/index.js";
import { openEngine } from "../src/engines/native/index.js";
import { random } from "../src/random.js";
import { trainingLibrary } from "../src/runtimes.js";
import { zeros, type Tensor } from "../src/tensor.js";

/** Uniform numbers from a table: Philox for every one of 10⁸ would take longer than the benchmark. */
function filled(shape: [number, number], seed: number): Tensor {
  const t = zeros("float32", shape);
  const r = random(seed, "features");
  const few = Float32Array.from({ length: 65_521 }, () => r.uniform(-1, 1));
  for (let i = 0; i < t.data.length; i++) t.data[i] = few[(i + (i >>> 13)) % few.length]!;
  return t;
}

export async function main(args: string[]): Promise<void> {
  const [queries = 10_000, bank = 50_000, width = 2048] = args.map(Number);
  const classes = 1000;
  const engine = openEngine({ library: await trainingLibrary(), name: "training", threads: availableParallelism() });
  const b = filled([bank, width], 0);
  const q = filled([queries, width], 1);
  const labelled = (t: Tensor) => ({
    features: { data: t.data as Float32Array, length: t.shape[0]!, width },
    labels: Int32Array.from({ length: t.shape[0]! }, (_, i) => i % classes),
  });

  // the product in blocks of 512 queries: in one piece its result alone would be 2 GB
  const block = 512;
  const [x, y] = [input("x", "float32", ["Q", width]), input("y", "float32", [bank, width])];
  const session = await engine.session(
    toModel({ inputs: [x, y], outputs: { product: Gemm(x, y, null, { transB: 1 }) } }),
  );
  const into = zeros("float32", [block, bank]);
  const product = async (): Promise<void> => {
    for (let start = 0; start < queries; start += block) {
      const rows = Math.min(block, queries - start);
      const data = (q.data as Float32Array).subarray(start * width, (start + rows) * width);
      const target: Tensor = { ...into, shape: [rows, bank], data: into.data.subarray(0, rows * bank) };
      await session.run({ x: { dtype: "float32", shape: [rows, width], data: data as never }, y: b }, ["product"], {
        product: target,
      });
    }
  };
  const neighbours = async (): Promise<void> => {
    const options = { k: [10, 20, 100, 200], temperature: 0.07, vote: "weighted" as const };
    await nearest(engine, labelled(b), labelled(q), classes, options);
  };

  const timed = async (run: () => Promise<void>) => {
    const [began, cpu] = [performance.now(), process.cpuUsage()];
    await run();
    const { user, system } = process.cpuUsage(cpu);
    return { wall: (performance.now() - began) / 1000, cpu: (user + system) / 1e6 };
  };
  const times = { product: [] as { wall: number; cpu: number }[], knn: [] as { wall: number; cpu: number }[] };
  for (let round = 0; round < 3; round++) {
    times.product.push(await timed(product));
    times.knn.push(await timed(neighbours));
  }
  const least = (which: keyof typeof times, what: "wall" | "cpu") => Math.min(...times[which].map((t) => t[what]));
  const words = (which: keyof typeof times) =>
    `${least(which, "wall").toFixed(1)} s (${least(which, "cpu").toFixed(1)} s of processor)`;
  process.stdout.write(
    `${queries} queries × ${bank} × ${width}, k = 10, 20, 100, 200 of ${classes} classes: product ${words("product")}, kNN ${words("knn")}, ` +
      `ratio ${(least("knn", "wall") / least("product", "wall")).toFixed(2)} (${(least("knn", "cpu") / least("product", "cpu")).toFixed(2)} of processor time)\n`,
  );
  session.release();
}
