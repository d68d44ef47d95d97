/** Features computed once: kept in the user's cache folder under a hash of the encoder, how images enter it, and the images. */
import { createHash } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { readSafetensors, writeSafetensors } from "../src/artifacts/safetensors.js";
import { cacheDir } from "../src/cache.js";
import type { Dataset } from "../src/data/index.js";
import { matrix, type Features } from "./features.js";

/**
 * The features that `compute` gives, or gave before for the same parts (encoder bytes, preprocessing) and images. Without parts, or
 * where the data does not say what its images are decoded from, they are computed anew.
 */
export async function cachedFeatures(
  parts: readonly (Uint8Array | string)[] | undefined,
  images: Dataset,
  compute: () => Promise<Features>,
): Promise<Features> {
  if (!parts || !images.source) return compute();
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part).update("\n");
  for (let i = 0; i < images.length; i++) hash.update(await images.source(i)).update("\n");
  const folder = cacheDir("features");
  const file = join(folder, `${hash.digest("hex")}.safetensors`);
  const known = await readFile(file).catch(() => undefined);
  if (known) {
    const { features } = readSafetensors(known).tensors;
    return { data: features!.data as Float32Array, length: features!.shape[0]!, width: features!.shape[1]! };
  }
  const features = await compute();
  await mkdir(folder, { recursive: true });
  const aside = `${file}.${process.pid}`;
  await writeFile(aside, writeSafetensors({ features: matrix(features) }));
  await rename(aside, file);
  return features;
}
