/**
 * The door of coco-eval: what can be read and run without oclif is, since loading oclif takes longer than the evaluation; help and mistaken flags
 * are oclif's.
 */
import { parseArgs } from "node:util";
import { cocoEvalFlags, runCocoEval } from "./cocoEval.js";
import type { PlainFlags, PlainValues } from "./plainFlags.js";

/** The values of the flags, or nothing where oclif has to explain. */
function parsed(flags: PlainFlags, args: string[]): PlainValues | undefined {
  let values: PlainValues;
  try {
    values = parseArgs({ args, options: { ...flags, json: { type: "boolean" } } as never }).values;
  } catch {
    return undefined;
  }
  const wrong = Object.entries(flags).some(([name, { required, options }]) => {
    const value = values[name];
    return value === undefined ? required : options && !options.includes(value as string);
  });
  return wrong ? undefined : values;
}

export async function execute(options: { dir: string }): Promise<void> {
  const values = parsed(cocoEvalFlags, process.argv.slice(3));
  if (!values) {
    const oclif = await import("@oclif/core");
    await oclif.execute(options);
    return;
  }
  try {
    const { result, lines } = runCocoEval(values, (line) => process.stderr.write(`${line}\n`));
    process.stdout.write(values.json ? `${JSON.stringify(result, null, 2)}\n` : `${lines().join("\n")}\n`);
  } catch (e) {
    const { name, message } = e as Error;
    if (values.json) process.stdout.write(`${JSON.stringify({ error: { name, message } }, null, 2)}\n`);
    else process.stderr.write(`Error: ${message}\n`);
    process.exitCode = 1;
  }
}
