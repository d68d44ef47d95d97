/** Frozen features of any encoder.onnx: the one path through which evaluators see a network. */
import { augmentation, centred, type Draw } from "../graphs/augment.js";
import type { EncoderInfo } from "../graphs/encoder.js";
import { readModel } from "../src/onnx/model.js";
import { augmenter } from "../src/data/augmenter.js";
import { readImage, type Dataset, type Image } from "../src/data/dataset.js";
import type { Engine, Resident } from "../src/engines/index.js";
import { dtypes, zeros, type Tensor } from "../src/tensor.js";
import { channelCounts, statisticsOf, type Channels, type Statistics, type ViewSpec } from "../src/views.js";

/** Rows [N, D]. */
export interface Features {
  data: Float32Array;
  length: number;
  width: number;
}

/** Rows [from, to) as a tensor over the same memory. */
export const matrix = ({ data, length, width }: Features, from = 0, to = length): Tensor => ({
  dtype: "float32",
  shape: [to - from, width],
  data: data.subarray(from * width, to * width) as Float32Array<ArrayBuffer>,
});

/** Class indices as int64 [n]. */
export function vector(labels: Int32Array): Tensor {
  const t = zeros("int64", [labels.length]);
  labels.forEach((c, i) => (t.data[i] = BigInt(c)));
  return t;
}

/** How images enter an encoder. */
export interface Preprocessing {
  size: number;
  resize: number;
  channels: Channels;
  /** Applied outside the encoder; absent where it normalises inside. */
  normalize?: Statistics;
}

/** How images enter an encoder of ours. */
export const seenBy = ({ size, resize, mean }: Pick<EncoderInfo, "size" | "resize" | "mean">): Preprocessing => ({
  size,
  resize,
  channels: mean.length as Channels,
});

/**
 * What an encoder says of itself under metadata key "diptych", or what the caller says of a foreign one. The contract: one input,
 * float32 images [B,C,H,W] of 1, 3 or 4 channels (3 where C is free); its output `features`, or else the first, is [B,D] or [B,D,h,w].
 */
export function preprocessingOf(encoder: Uint8Array, given: Partial<Preprocessing> = {}): Preprocessing {
  const { metadata, inputs } = readModel(encoder);
  if (inputs.length !== 1)
    throw new Error(
      `An encoder has one input, the image; this model has ${inputs.length}: ${inputs.map((v) => v.name).join(", ")}.`,
    );
  const { name, dtype, shape } = inputs[0]!;
  const channels = channelCounts.find((c) => c === (Number(shape[1]) || 3));
  if (dtype !== dtypes.float32.onnx || shape.length !== 4 || !channels)
    throw new Error(
      `An encoder takes float32 images [B,C,H,W] of 1, 3 or 4 channels; input "${name}" of this model is ${nameOf(dtype)} [${shape.join(",")}].`,
    );
  if (metadata.diptych) {
    const info = JSON.parse(metadata.diptych) as { size: number; resize: number };
    return { size: given.size ?? info.size, resize: given.resize ?? given.size ?? info.resize, channels };
  }
  const side = shape[2];
  const size = given.size ?? (typeof side === "number" && side > 0 ? side : undefined);
  if (!size) throw new Error("This encoder does not say the size of its images. Give --size (and --mean, --std).");
  const normalize = given.normalize && statisticsOf(given.normalize, channels);
  return { size, resize: given.resize ?? size, channels, normalize };
}

const nameOf = (onnx: number): string =>
  Object.entries(dtypes).find(([, d]) => d.onnx === onnx)?.[0] ?? `of element type ${onnx}`;

const square = (p: Preprocessing): ViewSpec => ({
  name: "image",
  count: 1,
  channels: p.channels,
  size: p.size,
  crop: { scale: [1, 1] },
  normalize: p.normalize,
});

/** Centre crops of images i… as [B,C,S,S]. */
export type ImageBatches = (
  visit: (start: number, images: Resident) => Promise<void>,
  progress?: (done: number) => void,
) => Promise<void>;

/** Batches of images where the engine computes, decoded while the previous batch is looked at and released after; `place` says what of image i is shown: its centre. */
export function imageBatches(
  engine: Engine,
  data: Dataset,
  p: Preprocessing,
  batchSize = 64,
  place: (image: Image, i: number) => Draw = (image) => centred(image, p.size, p.resize),
): ImageBatches {
  return async (visit, progress) => {
    const view = square(p);
    const aug = augmenter(engine, () => augmentation(view, "float"));
    const load = async (start: number): Promise<Resident> => {
      const count = Math.min(batchSize, data.length - start);
      const images = await Promise.all(Array.from({ length: count }, (_, i) => readImage(data, start + i)));
      return aug.each(images, view, (i) => place(images[i]!, start + i));
    };
    let next = load(0);
    for (let start = 0; start < data.length; start += batchSize) {
      const images = await next;
      next = start + batchSize < data.length ? load(start + batchSize) : Promise.resolve(images);
      next.catch(() => undefined);
      await visit(start, images).finally(() => images.release());
      progress?.(Math.min(data.length, start + batchSize));
    }
    aug.release();
  };
}

/** Features of every image: the encoder's `features` output, or its first one; maps [B,D,h,w] are averaged over h and w. */
export async function extractFeatures(
  engine: Engine,
  encoder: Uint8Array,
  batches: ImageBatches,
  length: number,
  progress?: (done: number) => void,
): Promise<Features> {
  const session = await engine.session(encoder);
  const output = session.outputs.includes("features") ? "features" : session.outputs[0]!;
  const batch = Number(readModel(encoder).inputs[0]!.shape[0]) || undefined; // exported for one batch size, or for any
  let out: Features | undefined;
  try {
    await batches(async (start, images) => {
      const fed =
        batch === undefined ? [{ from: 0, count: images.shape[0]!, part: images }] : parts(await images.read(), batch);
      for (const { from, count, part } of fed) {
        const { [output]: f } = await session.run({ [session.inputs[0]!]: part }, [output]);
        const rows = f!.shape.length === 2 ? f! : spatialMeans(f!);
        const width = rows.shape[1]!;
        out ??= { data: new Float32Array(length * width), length, width };
        out.data.set((rows.data as Float32Array).subarray(0, count * width), (start + from) * width);
      }
    }, progress);
  } finally {
    session.release();
  }
  return out!;
}

/** A batch in parts of `size` images, the last one filled up with black ones. */
function* parts(images: Tensor, size: number): Generator<{ from: number; count: number; part: Tensor }> {
  const [length, ...image] = images.shape as [number, ...number[]];
  const pixels = image.reduce((a, b) => a * b, 1);
  for (let from = 0; from < length; from += size) {
    const part = zeros("float32", [size, ...image]);
    const count = Math.min(size, length - from);
    part.data.set((images.data as Float32Array).subarray(from * pixels, (from + count) * pixels));
    yield { from, count, part };
  }
}

function spatialMeans(f: Tensor): Tensor {
  const [b, d, ...rest] = f.shape as [number, number, ...number[]];
  const area = rest.reduce((x, y) => x * y, 1);
  const data = new Float32Array(b * d);
  for (let i = 0; i < b * d; i++) {
    let sum = 0;
    for (let k = 0; k < area; k++) sum += Number(f.data[i * area + k]);
    data[i] = sum / area;
  }
  return { dtype: "float32", shape: [b, d], data };
}

/** Pixels as features: what every learned feature has to beat. Channels are centred and scaled first. */
export async function pixelFeatures(
  batches: ImageBatches,
  length: number,
  mean: readonly number[],
  std: readonly number[],
): Promise<Features> {
  let out: Features | undefined;
  await batches(async (start, images) => {
    const [b, c, h, w] = images.shape as [number, number, number, number];
    const width = c * h * w;
    out ??= { data: new Float32Array(length * width), length, width };
    const area = h * w;
    const data = (await images.read()).data as Float32Array;
    for (let i = 0; i < b * width; i++) {
      const channel = Math.floor(i / area) % c;
      out.data[start * width + i] = (data[i]! - mean[channel]!) / std[channel]!;
    }
  });
  return out!;
}

/** Rows scaled to unit length, in place. */
export function normalizeRows(f: Features): Features {
  for (let i = 0; i < f.length; i++) {
    const row = f.data.subarray(i * f.width, (i + 1) * f.width);
    let square = 0;
    for (const v of row) square += v * v;
    const scale = 1 / Math.max(Math.sqrt(square), 1e-12);
    for (let k = 0; k < row.length; k++) row[k]! *= scale;
  }
  return f;
}
