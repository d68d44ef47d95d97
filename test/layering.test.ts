import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** Every source file with the modules it imports: paths from the root, or package names. */
const files = ["src", "graphs", "evaluators", "cli"].flatMap((top) =>
  readdirSync(join(root, top), { recursive: true, encoding: "utf8" })
    .filter((f) => f.endsWith(".ts"))
    .map((f) => {
      const path = join(top, f);
      const text = readFileSync(join(root, path), "utf8");
      const imports = [...text.matchAll(/(?:from|import\()\s*"([^"]+)"/g)].map(([, m]) =>
        m!.startsWith(".") ? relative(root, join(root, dirname(path), m!)) : m!,
      );
      return { path, text, imports };
    }),
);
const offenders = (of: (path: string) => boolean, forbidden: (module: string) => boolean): string[] =>
  files.filter((f) => of(f.path)).flatMap((f) => f.imports.filter(forbidden).map((m) => `${f.path} imports ${m}`));

describe("the house", () => {
  it("lets imports point one way", () => {
    assert.deepEqual(
      offenders(
        (p) => p.startsWith("src/"),
        (m) => /^(graphs|evaluators|cli)\//.test(m),
      ),
      [],
    );
    assert.deepEqual(
      offenders(
        (p) => p.startsWith("graphs/"),
        (m) => /^(evaluators|cli)\//.test(m),
      ),
      [],
    );
    assert.deepEqual(
      offenders(
        (p) => p.startsWith("evaluators/"),
        (m) => m.startsWith("cli/"),
      ),
      [],
    );
  });
  it("keeps graphs/ pure", () => {
    assert.deepEqual(
      offenders(
        (p) => p.startsWith("graphs/"),
        (m) => /^(node:|src\/(engines|data)\/|sharp$|koffi$)/.test(m),
      ),
      [],
    );
    assert.deepEqual(
      files.filter((f) => f.path.startsWith("graphs/") && /Math\.random|Date\.now/.test(f.text)).map((f) => f.path),
      [],
    );
  });
  it("keeps the loop free of methods and evaluators", () => {
    assert.deepEqual(
      offenders(
        (p) => p === "src/train.ts",
        (m) => /graphs|evaluators|data/.test(m),
      ),
      [],
    );
  });
  it("has one importer of onnx-proto and one folder that imports koffi", () => {
    assert.deepEqual(
      offenders(
        (p) => p !== "src/onnx/model.ts",
        (m) => m === "onnx-proto",
      ),
      [],
    );
    assert.deepEqual(
      offenders(
        (p) => !p.startsWith("src/engines/native/"),
        (m) => m === "koffi",
      ),
      [],
    );
  });
  it("never imports onnxruntime-node, whose library is loaded by path", () => {
    assert.deepEqual(
      offenders(
        () => true,
        (m) => m === "onnxruntime-node",
      ),
      [],
    );
  });
});

describe("the lockfile", () => {
  it("pins every package by hash and names no address", () => {
    const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
      packages: Record<string, { integrity?: string; resolved?: string; link?: boolean }>;
    };
    const entries = Object.entries(lock.packages).filter(([name, p]) => name && !p.link);
    assert.ok(entries.length > 100);
    assert.deepEqual(
      entries.filter(([, p]) => !p.integrity).map(([name]) => name),
      [],
    );
    assert.deepEqual(
      entries.filter(([, p]) => p.resolved).map(([name]) => name),
      [],
    );
  });
});
