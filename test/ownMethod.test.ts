import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));

describe("docs/your-own-method.md", () => {
  const [, code] = /```js\n([\s\S]*?)```/.exec(readFileSync(`${root}docs/your-own-method.md`, "utf8"))!;
  it("has a method, and all that trains it, in under 60 lines", () => {
    assert.ok(code!.trim().split("\n").length < 60);
  });
  it("runs as it stands, and its loss falls to less than half", () => {
    const at = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);
    const own = code!
      .replaceAll('"diptych/graphs"', at("../graphs/index.js"))
      .replaceAll('"diptych"', at("../src/index.js"));
    const printed = execFileSync(process.execPath, ["--input-type=module", "-e", own], { encoding: "utf8", cwd: root });
    const [first, last] = printed
      .trim()
      .split("\n")
      .map((line) => Number(line.split(" ")[1])) as [number, number];
    assert.ok(last < 0.5 * first, `loss went from ${first} to ${last}`);
  });
});
