import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));

describe("the README", () => {
  it("has a library example that runs and prints what it says", () => {
    const [, code] = /```ts\n([\s\S]*?)```/.exec(readFileSync(`${root}README.md`, "utf8"))!;
    const own = code!.replace('"diptych"', JSON.stringify(new URL("../src/index.js", import.meta.url).href));
    const printed = execFileSync(process.execPath, ["--input-type=module", "-e", own], { encoding: "utf8", cwd: root });
    assert.equal(printed.trim(), /\/\/ (0\.25.*)$/m.exec(code!)![1]);
  });
});
