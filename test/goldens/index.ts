/** Runs files of golden's format through the product's code. */
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import type { NativeEngine } from "../../src/engines/native/index.js";
import { apsKinds } from "./aps.js";
import { augmentComplaints } from "./augment.js";
import { bagsslKinds } from "./bagssl.js";
import { cacrKinds } from "./cacr.js";
import { compared, type GoldenCase, type GoldenFile, type Kind, type Outcome } from "./case.js";
import { denseclKinds, ema } from "./densecl.js";
import { isdKinds } from "./isd.js";
import { networkComplaints, positionEmbedding } from "./networks.js";
import { clip, optimizer, schedule } from "./optimizers.js";

/** method → kind → what computes it. Kinds that are missing are not built yet. */
const kinds: Record<string, Record<string, Kind>> = {
  aps: apsKinds,
  bagssl: bagsslKinds,
  cacr: cacrKinds,
  densecl: denseclKinds,
  isd: isdKinds,
  optimizers: { optimizer, clip, schedule },
};
/** Kinds whose meaning is the same in every file. */
const common: Record<string, Kind> = { ema, positionEmbedding };

export async function readGolden(path: string): Promise<{ file: GoldenFile; cases: GoldenCase[] }> {
  const { cases, ...file } = JSON.parse(await readFile(path, "utf8")) as { cases: GoldenCase[]; method: string };
  return { file: { ...file, path: resolve(path) }, cases };
}

type Judged = { complaints: string[]; note?: string } | undefined;
async function judged(engine: NativeEngine, c: GoldenCase, file: GoldenFile): Promise<Judged> {
  const plain = (complaints?: string[]): Judged => complaints && { complaints };
  if (file.method === "augment") return plain(await augmentComplaints(engine, c, file));
  if (c.kind === "network") return networkComplaints(engine, c, file.path, engine.training ? "training" : "portable");
  const kind = kinds[file.method]?.[c.kind] ?? common[c.kind];
  const got = await kind?.(engine, c, file);
  return plain(got && compared(c, got));
}

/** One case on one engine. */
export async function goldenOutcome(engine: NativeEngine, c: GoldenCase, file: GoldenFile): Promise<Outcome> {
  try {
    const result = await judged(engine, c, file);
    if (!result) return { name: c.name, status: "skipped", detail: [] };
    const { complaints: detail, note } = result;
    return { name: c.name, status: detail.length ? "failed" : "passed", detail, note };
  } catch (error) {
    return { name: c.name, status: "failed", detail: [(error as Error).stack ?? String(error)] };
  }
}
