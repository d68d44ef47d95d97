/** npm run bench -- nodes [CASE…]: nodes of a step as it is built for the CPU and for a card, in fp16; a Reshape moves nothing and is not counted. */
import { valuesOf } from "../src/artifacts/index.js";
import { nodesOf, type Device } from "../src/onnx/graph.js";
import { caseStep, gpuCases } from "./cases.js";
import { caseOf } from "./openCase.js";

/** Op types of a step, the most frequent first. */
function counted(name: string, device: Device): [type: string, count: number][] {
  const step = caseStep(caseOf(name), "training", { device, precision: "fp16" });
  const counts = new Map<string, number>();
  for (const { op } of nodesOf(valuesOf(step))) counts.set(op.type, (counts.get(op.type) ?? 0) + 1);
  counts.delete("Reshape");
  return [...counts].sort(([, a], [, b]) => b - a);
}

export async function main(names: string[]): Promise<void> {
  for (const name of names.length ? names : Object.keys(gpuCases)) {
    const [cpu, cuda] = [counted(name, "cpu"), counted(name, "cuda")];
    const sum = (counts: [string, number][]): number => counts.reduce((n, [, count]) => n + count, 0);
    const most = cuda.slice(0, 8).map(([type, count]) => `${type} ${count}`);
    process.stdout.write(`${name}: ${sum(cpu)} nodes for the CPU, ${sum(cuda)} for a card: ${most.join(", ")} …\n`);
  }
  await Promise.resolve();
}
