/** Flags as plain data, for commands that are read without oclif too: its loading takes longer than many an evaluation. */
import { Flags, type Interfaces } from "@oclif/core";

export interface PlainFlag {
  type: "string" | "boolean";
  description: string;
  required?: true;
  default?: string;
  /** The values it may have. */
  options?: readonly string[];
  multiple?: true;
}
export type PlainFlags = Readonly<Record<string, PlainFlag>>;

/** What was given. */
export type PlainValues = Record<string, string | boolean | string[] | undefined>;

/** The same for oclif, which writes the help. */
export const oclifFlags = (flags: PlainFlags): Interfaces.FlagInput =>
  Object.fromEntries(
    Object.entries(flags).map(([name, { type, description, required, default: value, options, multiple }]) => {
      if (type === "boolean") return [name, Flags.boolean({ description })];
      const shared = { description, required, options: options && [...options] };
      return [name, multiple ? Flags.string({ ...shared, multiple }) : Flags.string({ ...shared, default: value })];
    }),
  );
