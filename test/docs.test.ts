import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { methods } from "../graphs/methods/index.js";

const docs = fileURLToPath(new URL("../../docs/", import.meta.url));
const read = (file: string): string => readFileSync(`${docs}${file}`, "utf8");

describe("docs/methods", () => {
  const pages = readdirSync(`${docs}methods`).map((f) => f.replace(/\.md$/, ""));
  it("lists its pages", () => {
    for (const page of pages) assert.ok(read("methods.md").includes(`(methods/${page}.md)`), page);
  });
  for (const [name, method] of Object.entries(methods))
    if (pages.includes(name))
      it(`names every option of ${name}`, () => {
        const page = read(`methods/${name}.md`);
        for (const option of Object.keys(method.defaults)) assert.ok(page.includes(`\`${option}\``), option);
      });
});
