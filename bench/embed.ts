/** npm run bench -- embed [ENCODER] [FOLDER] [IMAGES]: images a second of decoding alone, of inference alone, and of embed, which does both. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { embed } from "../cli/inference/embed.js";
import { encoderAt, imagesIn } from "../cli/inference/source.js";
import { imageBatches } from "../evaluators/features.js";
import { encoderModel, network, type EncoderInfo } from "../graphs/encoder.js";
import { rootScope } from "../graphs/scope.js";
import { openEngine } from "../src/engines/native/index.js";
import { input } from "../src/onnx/graph.js";
import { portableLibrary } from "../src/runtimes.js";
import { initialTensors } from "../src/step.js";
import { imagenetStatistics } from "../src/views.js";

const samples = fileURLToPath(new URL("../../samples", import.meta.url));

/** A ResNet-18 with fresh weights at 128 px: what is timed does not depend on what it learned. */
function freshEncoder(file: string): string {
  const { backbone, options } = network("resnet18");
  const { scope, collected } = rootScope("portable", "eval");
  backbone.forward(scope, input("image", "float32", [1, 3, 64, 64]), options);
  const state = [...collected.states].map(([name, s]) => ({ name, input: s.input, init: s.init, next: s.input }));
  const weights = initialTensors({ parameters: [...collected.parameters.values()], state }, 0);
  const info: EncoderInfo = {
    ...{ backbone: "resnet18", options, size: 128, resize: 144, method: "none", recipe: "bench" },
    ...imagenetStatistics,
  };
  writeFileSync(file, encoderModel(info, weights));
  return file;
}

interface Measured {
  /** Images a second of the fastest of three rounds: the machine may have other guests. */
  speed: number;
  /** Seconds of processor time an image in the most frugal round, which other guests disturb less. */
  cpu: number;
}
async function measured(images: number, round: () => Promise<unknown>): Promise<Measured> {
  let [wall, cpu] = [Infinity, Infinity];
  for (let i = 0; i < 3; i++) {
    const [began, used] = [performance.now(), process.cpuUsage()];
    await round();
    wall = Math.min(wall, performance.now() - began);
    const { user, system } = process.cpuUsage(used);
    cpu = Math.min(cpu, user + system);
  }
  return { speed: (1000 * images) / wall, cpu: cpu / 1e6 / images };
}

export async function main([encoderFile, folder = samples, count = "1000"]: string[]): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "bench-embed-"));
  const engine = openEngine({ library: portableLibrary(), name: "portable", threads: availableParallelism() });
  const encoder = await encoderAt(encoderFile ?? freshEncoder(join(dir, "encoder.onnx")), {});
  const all = await imagesIn(folder, encoder);
  const data = {
    ...all,
    length: Math.min(all.length, Number(count)),
    key: (i: number) => all.key(i),
    image: (i: number) => all.image(i),
  };
  const batches = imageBatches(engine, data, encoder.preprocessing);

  const decode = await measured(data.length, () => batches(() => Promise.resolve()));
  const session = await engine.session(encoder.bytes);
  const kept: Parameters<Parameters<typeof batches>[0]>[1][] = [];
  await batches((_start, images) => Promise.resolve(void kept.push(images)));
  const inference = await measured(data.length, async () => {
    for (const images of kept) await session.run({ [session.inputs[0]!]: images });
  });
  session.release();
  const both = await measured(data.length, () =>
    embed(engine, encoder.bytes, data, {
      out: join(dir, "features.npy"),
      dense: false,
      preprocessing: encoder.preprocessing,
      say: () => undefined,
      progress: () => undefined,
    }),
  );
  rmSync(dir, { recursive: true });
  const slower = Math.min(decode.speed, inference.speed);
  // both need the cores: together they are no faster than the cores can work off the processor time of both
  const most = engine.threads / (decode.cpu + inference.cpu);
  const milliseconds = (m: Measured): string => (1000 * m.cpu).toFixed(1);
  process.stdout.write(
    `${data.length} images, ${engine.threads} threads: decode ${decode.speed.toFixed(1)}, inference ${inference.speed.toFixed(1)}, embed ${both.speed.toFixed(1)} images a second: ` +
      `${(both.speed / slower).toFixed(2)} of the slower; with ${milliseconds(decode)} + ${milliseconds(inference)} ms of processor time an image the cores reach ` +
      `${most.toFixed(1)}, ${(most / slower).toFixed(2)} of the slower; embed took ${milliseconds(both)} ms and reached ${(both.speed / most).toFixed(2)} of that\n`,
  );
}
