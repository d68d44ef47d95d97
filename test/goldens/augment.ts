/** Augmentation against torchvision and Pillow, through the graphs that training uses. */
import { augmentation, type Draw, type Stage } from "../../graphs/augment.js";
import { augmenter } from "../../src/data/augmenter.js";
import type { Image } from "../../src/data/index.js";
import type { NativeEngine } from "../../src/engines/native/index.js";
import type { Pixels, ViewSpec } from "../../src/views.js";
import { distance, type GoldenCase, type GoldenFile } from "./case.js";

/** The source image by formula, as planes. */
function source({ image: { height, width } }: GoldenFile): Image {
  const data = new Uint8Array(3 * height * width);
  for (let k = 0; k < 3; k++)
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++)
        data[(k * height + y) * width + x] = (7 * x + 11 * y + 53 * k + ((x * y * (k + 1)) >> 2) + 3 * (x ^ y)) & 255;
  return { width, height, data };
}

const factorStage = (op: string, value: number): Stage =>
  op === "hue" ? { op, shift: value } : { op: op as "brightness" | "contrast" | "saturation", factor: value };
const jitter = ({ order, factors }: { order: string[]; factors: Record<string, number> }): Stage[] =>
  order.map((op) => factorStage(op, factors[op]!));

/** One operation as a draw on its crop; undefined: not built yet. */
function single(c: GoldenCase): { d: Draw; view: ViewSpec } | undefined {
  const o = c.options;
  const box = o.box ?? o.source_crop;
  const size = o.size?.[0] ?? box.height;
  if (o.size && o.size[0] !== o.size[1]) return undefined;
  const kind = c.variant.split("-")[0]!;
  const stages: Record<string, () => Stage[]> = {
    identity: () => [],
    hflip: () => [],
    resizedCrop: () => [],
    normalize: () => [],
    brightness: () => [factorStage("brightness", o.factor)],
    contrast: () => [factorStage("contrast", o.factor)],
    saturation: () => [factorStage("saturation", o.factor)],
    hue: () => [factorStage("hue", o.factor)],
    jitter: () => jitter(o as never),
    grayscale: () => [{ op: "grey" }],
    gaussianBlur: () => [
      c.variant.endsWith("pil")
        ? { op: "blur", sigma: o.radius }
        : { op: "blur", sigma: o.sigma, kernel: o.kernel_size },
    ],
    solarize: () => [{ op: "solarize", threshold: c.pixels === "pil" ? o.threshold / 256 : o.threshold }],
  };
  const made = stages[kind]?.();
  if (!made) return undefined;
  const view: ViewSpec = {
    name: "view",
    count: 1,
    size,
    crop: { scale: [1, 1], interpolation: o.interpolation, antialias: o.antialias },
    ...(kind === "normalize" && { normalize: { mean: o.mean, std: o.std } }),
  };
  return { d: { crop: box, flip: kind === "hflip", stages: made }, view };
}

function pipeline(c: GoldenCase): { d: Draw; view: ViewSpec } {
  const view: ViewSpec = { name: "view", count: 1, size: 32, crop: { scale: [1, 1] } };
  let shaped = view;
  const d: Draw = { crop: { top: 0, left: 0, height: 1, width: 1 }, flip: false, stages: [] };
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- golden's step options differ from step to step
  for (const [op, o] of c.options.steps as [string, any][]) {
    if (op === "crop") {
      const [top, left, height, width] = o.box as [number, number, number, number];
      d.crop = { top, left, height, width };
      shaped = { ...view, size: o.size[0], crop: { scale: [1, 1], interpolation: o.interp } };
    } else if (op === "flip") d.flip = !d.flip;
    else if (op === "jitter") d.stages.push(...jitter(o));
    else if (op === "gray") d.stages.push({ op: "grey" });
    else if (op === "blur") d.stages.push({ op: "blur", sigma: o.radius });
    else if (op === "solarize") d.stages.push({ op: "solarize", threshold: 0.5 });
    else throw new Error(`Unknown pipeline step ${op}`);
  }
  return { d, view: shaped };
}

async function run(
  engine: NativeEngine,
  image: Image,
  { d, view }: { d: Draw; view: ViewSpec },
  pixels: Pixels,
): Promise<Float32Array> {
  const aug = augmenter(engine, (v) => augmentation(v, pixels));
  const { view: out } = await aug.batch([image], [view], () => d);
  aug.release();
  return (await out!.read()).data as Float32Array;
}

/** Complaints of one case; undefined: not claimed (u8) or not built yet. */
export async function augmentComplaints(
  engine: NativeEngine,
  c: GoldenCase,
  file: GoldenFile,
): Promise<string[] | undefined> {
  if (c.pixels === "u8") return undefined;
  const image = source(file);
  const pixels = c.pixels as Pixels;
  const abs = c.tolerance.abs as number;
  if (c.kind === "pipeline") {
    const what = pipeline(c);
    const before = Array.from(await run(engine, image, what, pixels), (v) => Math.round(v * 255));
    const normalized = {
      ...what.view,
      normalize: { mean: c.options.mean as number[], std: c.options.std as number[] },
    };
    const after = [...(await run(engine, image, { d: what.d, view: normalized }, pixels))];
    return [
      ...summary("before_normalize", before, c.expect.before_normalize, abs),
      ...summary("after_normalize", after, c.expect.after_normalize, c.tolerance.after_normalize_abs),
    ];
  }
  const what = single(c);
  if (!what) return undefined;
  const levels = pixels === "pil" && !what.view.normalize;
  const got = Array.from(await run(engine, image, what, pixels), (v) => (levels ? Math.round(v * 255) : v));
  return summary("", got, c.expect, abs);
}

/** first values one by one, the whole where it is given, and per channel the sums that would betray a wrong place. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- golden's expectations differ from case to case
function summary(label: string, got: number[], want: any, abs: number): string[] {
  const name = (q: string) => `${label}${label ? "." : ""}${q}`;
  const complaints = distance(name("first64"), got.slice(0, want.first64.length), want.first64, abs);
  if (want.data) complaints.push(...distance(name("data"), got, want.data, abs));
  const n = got.length / 3;
  for (let k = 0; k < 3; k++) {
    const channel = got.slice(k * n, (k + 1) * n);
    complaints.push(
      ...distance(name(`channel_sum[${k}]`), [channel.reduce((a, b) => a + b, 0)], [want.channel_sum[k]], abs * n),
    );
    const weighted = channel.reduce((s, v, i) => s + v * ((i % 251) + 1), 0);
    complaints.push(
      ...distance(name(`channel_weighted_sum[${k}]`), [weighted], [want.channel_weighted_sum[k]], abs * n * 251),
    );
  }
  return complaints;
}
