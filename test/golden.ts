/** npm run golden -- FILE…: any file of golden's format. Skipped: a kind or form that is not built yet, or not claimed. */
import { goldenOutcome, readGolden } from "./goldens/index.js";
import { trainingEngine } from "./engine.js";

const engine = await trainingEngine();
const count = { passed: 0, failed: 0, skipped: 0 };
for (const path of process.argv.slice(2)) {
  const { file, cases } = await readGolden(path);
  for (const c of cases) {
    const outcome = await goldenOutcome(engine, c, file);
    count[outcome.status]++;
    if (outcome.status === "failed")
      process.stdout.write(`FAILED ${path} ${c.name}\n${outcome.detail.map((d) => `  ${d}\n`).join("")}`);
    else if (outcome.note) process.stdout.write(`passed ${path} ${c.name}: ${outcome.note}\n`);
  }
}
process.stdout.write(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped\n`);
process.exitCode = count.failed ? 1 : 0;
