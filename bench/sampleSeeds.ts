/** npm run sample:seeds: the main job on three seeds, and whether each beats its start and the raw pixels by three standard errors. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

interface Result {
  knn: { first: number; last: number; pixels: number; se: number };
}
const bin = fileURLToPath(new URL("../../bin/diptych.cjs", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "sample-seeds-"));
let failed = 0;
for (const seed of [0, 1, 2]) {
  const began = performance.now();
  const out = execFileSync(
    process.execPath,
    [bin, "pretrain", "sample", "--json", "--seed", String(seed), "--out", join(folder, String(seed))],
    {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    },
  );
  const { first, last, pixels, se } = (JSON.parse(out) as Result).knn;
  const [overStart, overPixels] = [(last - first) / se, (last - pixels) / se];
  if (Math.min(overStart, overPixels) < 3) failed++;
  process.stdout.write(
    `seed ${seed}: kNN top1 ${first.toFixed(2)} → ${last.toFixed(2)} ± ${se.toFixed(2)}, raw pixels ${pixels.toFixed(2)}: ` +
      `${overStart.toFixed(1)} and ${overPixels.toFixed(1)} standard errors above, ${((performance.now() - began) / 1000).toFixed(0)} s\n`,
  );
}
rmSync(folder, { recursive: true });
process.exitCode = failed ? 1 : 0;
