/** --set name=value for a judge: every option typed as its default is, mistakes answered with what there is. */
import type { Judge } from "../evaluators/evaluator.js";
import { unknownName } from "../src/names.js";

/** The defaults with the settings laid over them. */
export function resolveOptions<O extends object>(
  judge: string,
  { defaults, choices, counts = [] }: Pick<Judge<O>, "defaults" | "choices" | "counts">,
  settings: readonly string[],
): O {
  const out = structuredClone(defaults) as Record<string, unknown>;
  for (const setting of settings) {
    const at = setting.indexOf("=");
    if (at < 1) throw new Error(`Expected --set name=value but received "${setting}".`);
    const [name, text] = [setting.slice(0, at), setting.slice(at + 1)];
    if (!(name in defaults)) throw new Error(unknownName(`option of ${judge}`, name, Object.keys(defaults)));
    const words = choices?.[name as keyof O];
    out[name] = words
      ? word(name, text, words)
      : valued(name, text, (defaults as Record<string, unknown>)[name], counts.includes(name as keyof O));
  }
  return out as O;
}

function word(name: string, text: string, words: readonly string[]): string {
  if (!words.includes(text)) throw new Error(unknownName(name, text, words));
  return text;
}

/** The text as a value of the default's kind. */
function valued(name: string, text: string, like: unknown, counts: boolean): unknown {
  if (Array.isArray(like)) {
    const list = text.replace(/^\[|\]$/g, "").trim();
    return list === "" ? [] : list.split(",").map((part) => numeric(name, part.trim(), counts));
  }
  if (typeof like === "boolean") return word(name, text, ["true", "false"]) === "true";
  return typeof like === "number" ? numeric(name, text, counts) : text;
}

function numeric(name: string, text: string, counts: boolean): number {
  const value = Number(text);
  if (text === "" || !Number.isFinite(value) || value < 0 || (counts && (value < 1 || !Number.isInteger(value))))
    throw new Error(
      `Expected ${counts ? "a whole number above 0" : "a number of at least 0"} for ${name} but received ${text || "nothing"}.`,
    );
  return value;
}
