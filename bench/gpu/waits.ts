/** How much of a run is waiting for its batches: with one batch again and again, and with JPEGs decoded and augmented as a run does. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import type { CaseOptions } from "../openCase.js";

export interface Wait {
  img_s: number;
  /** Of the time of the loop. */
  wait_share: number;
}

const root = fileURLToPath(new URL("../../../", import.meta.url));

/** Some photographs of samples/ as JPEGs of 375 px short side, about an ImageNet photograph's, below `to`. */
export async function scaledSamples(to: string, count = 512): Promise<string> {
  mkdirSync(to, { recursive: true });
  const files = readdirSync(join(root, "samples"), { recursive: true, encoding: "utf8" }).filter((f) =>
    /\.jpe?g$/.test(f),
  );
  for (const file of files.slice(0, count))
    await sharp(join(root, "samples", file))
      .resize({ width: 375, height: 375, fit: "outside" })
      .jpeg({ quality: 90 })
      .toFile(join(to, file.replaceAll("/", "-")));
  return to;
}

/** Both ways for a case, each in a process of its own; a sentence where one failed. */
export function waitsOf(
  name: string,
  { threads, seconds, images, ...options }: CaseOptions & { threads: number; seconds: number; images: string },
): Record<"synthetic" | "images", Wait | string> {
  const args = [join(root, "dist/bench/gpu/waitChild.js"), name, String(threads), String(seconds)];
  const run = (...more: string[]): Wait | string =>
    printed<Wait>(process.execPath, [...args, JSON.stringify(options), ...more]);
  return { synthetic: run(), images: run(images) };
}

/** The JSON on the last line that a program prints; where it fails, the last line of its complaint. */
export function printed<T>(program: string, args: readonly string[]): T | string {
  try {
    const lines = execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
    return JSON.parse(lines.trim().split("\n").at(-1)!) as T;
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    return (stderr?.trim().split("\n").at(-1) || message).slice(0, 300);
  }
}
