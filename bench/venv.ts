/** The Python of the benchmarks' peers. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { cacheDir } from "../src/cache.js";

/** DIPTYCH_PYTHON, or a virtual environment made once, into which the packages of modules that are not there are installed. */
export function python(
  packages: Readonly<Record<string, string>> = { torch: "torch", torchvision: "torchvision" },
): string {
  if (process.env.DIPTYCH_PYTHON) return process.env.DIPTYCH_PYTHON;
  const folder = cacheDir("bench-venv");
  const own = join(folder, "bin", "python");
  if (!existsSync(own)) execFileSync("python3", ["-m", "venv", folder], { stdio: "inherit" });
  const find = `import importlib.util, sys; print(*(m for m in sys.argv[1:] if importlib.util.find_spec(m) is None))`;
  const missing = execFileSync(own, ["-c", find, ...Object.keys(packages)], { encoding: "utf8" })
    .split(/\s+/)
    .filter(Boolean);
  if (missing.length) {
    process.stderr.write(`Installing ${missing.map((m) => packages[m]).join(", ")} into ${folder}\n`);
    execFileSync(own, ["-m", "pip", "install", "-q", ...missing.map((m) => packages[m]!)], { stdio: "inherit" });
  }
  return own;
}
