import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { portableEngine, trainingEngine } from "./engine.js";
import { goldenOutcome, readGolden } from "./goldens/index.js";

const folder = fileURLToPath(new URL("../../test/golden/", import.meta.url));

async function suite(
  name: string,
  engines: Record<string, () => Promise<Parameters<typeof goldenOutcome>[0]>>,
): Promise<void> {
  const { file, cases } = await readGolden(`${folder}${name}.json`);
  describe(`golden ${name}`, () => {
    for (const [label, open] of Object.entries(engines))
      describe(label, () => {
        for (const c of cases) {
          it(c.name, async function () {
            const outcome = await goldenOutcome(await open(), c, file);
            if (outcome.status === "skipped") {
              this.test!.title += ` (${c.pixels === "u8" ? "u8 is not claimed" : `${c.kind} ${c.variant} is not built yet`})`;
              this.skip();
            }
            assert.deepEqual(outcome.detail, []);
            if (outcome.note) this.test!.title += ` (${outcome.note})`;
          });
        }
      });
  });
}

const training = { "training engine": trainingEngine };
const both = { ...training, "portable engine": () => Promise.resolve(portableEngine()) };
await suite("aps", both);
await suite("bagssl", both);
await suite("cacr", both);
await suite("densecl", both);
await suite("isd", both);
await suite("optimizers", both);
await suite("networks", both);
await suite("augment", training);
