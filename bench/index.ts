/** npm run bench -- NAME: side-by-side benchmarks. */
import { unknownName } from "../src/names.js";

const benches = {
  step: () => import("./step.js"),
  accumulate: () => import("./accumulate.js"),
  augment: () => import("./augment.js"),
  read: () => import("./read.js"),
  loader: () => import("./loader.js"),
  detection: () => import("./detection.js"),
  embed: () => import("./embed.js"),
  coco: () => import("./coco.js"),
  knn: () => import("./knn.js"),
  logdet: () => import("./logDet.js"),
  nodes: () => import("./nodes.js"),
  segmentation: () => import("./segmentation.js"),
} satisfies Record<string, () => Promise<{ main(args: string[]): Promise<void> }>>;

const [name = "", ...args] = process.argv.slice(2);
const bench = (benches as Record<string, (typeof benches)[keyof typeof benches] | undefined>)[name];
if (!bench) {
  process.stderr.write(`${unknownName("benchmark", name, Object.keys(benches))}\n`);
  process.exitCode = 1;
} else await (await bench()).main(args);
