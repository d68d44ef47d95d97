/** What a recipe may say: one zod schema, its parts derived from the registries and their defaults. */
import { z } from "zod";
import { backbones } from "../../graphs/backbones/index.js";
import type { Clipping } from "../../graphs/clipping.js";
import { faithfully, methods, type Method } from "../../graphs/methods/index.js";
import { optimizers } from "../../graphs/optimizers.js";
import { lossScaleDefaults, precisions, type LossScale, type Precision } from "../../graphs/precision.js";
import { cachings, datasets, type Caching } from "../../src/data/index.js";
import { unknownName } from "../../src/names.js";
import type { Schedule } from "../../src/schedules.js";
import { channelCounts, type Channels } from "../../src/views.js";

const positive = z.number().int().positive();
const number = z.number().finite();
const pair = z.tuple([number, number]);

const schedule = z.union([
  number,
  z.strictObject({
    schedule: z.literal("cosine"),
    peak: number,
    end: number.optional(),
    warmupEpochs: number.nonnegative().optional(),
    warmupStart: number.optional(),
    per: z.enum(["step", "epoch"]).optional(),
    warmup: z.enum(["plusOne", "fromZero", "toPeak"]).optional(),
    from: z.enum(["warmup", "start"]).optional(),
    capped: z.boolean().optional(),
    reached: z.enum(["after", "last"]).optional(),
  }),
  z.strictObject({
    schedule: z.literal("step"),
    peak: number,
    milestones: z.array(number).readonly(),
    gamma: number.optional(),
    warmupEpochs: number.nonnegative().optional(),
  }),
  z.strictObject({
    schedule: z.literal("poly"),
    peak: number,
    end: number.optional(),
    power: number.optional(),
  }),
  z.strictObject({ schedule: z.literal("delayed"), value: number, startStep: z.number().int().nonnegative() }),
]);

/** Parts of a view that a recipe may replace; null takes a part away. */
const view = z.strictObject({
  crop: z
    .strictObject({
      scale: pair,
      ratio: pair.optional(),
      interpolation: z.enum(["bilinear", "bicubic"]).optional(),
      antialias: z.boolean().optional(),
    })
    .optional(),
  flip: number.min(0).max(1).optional(),
  jitter: z
    .strictObject({ p: number, brightness: number, contrast: number, saturation: number, hue: number })
    .nullable()
    .optional(),
  grey: number.min(0).max(1).optional(),
  blur: z.strictObject({ p: number, sigma: pair }).nullable().optional(),
  solarize: z.strictObject({ p: number, threshold: number.optional() }).nullable().optional(),
  normalize: z.strictObject({ mean: z.array(number), std: z.array(number) }).optional(),
});

/** The type of a default, with that default: one of a few words, or any; numbers that a method schedules may be schedules. */
function optionOf(value: unknown, words: readonly string[] | undefined, scheduled: boolean) {
  if (words) return z.enum(words).default(String(value));
  if (scheduled) return schedule.default(value as Schedule);
  if (typeof value === "number") return number.default(value);
  if (typeof value === "boolean") return z.boolean().default(value);
  return z.string().default(String(value));
}

/** What the registries' entries have in common. */
interface Entry {
  defaults: object;
  choices?: Readonly<Record<string, readonly string[]>>;
}

/** {name, …options} of one registry entry; unknown options are refused with the known ones. */
const choice = (
  name: string,
  { defaults, choices = {} }: Entry,
  scheduled: readonly string[] = [],
  extra: object = {},
) =>
  z.strictObject({
    name: z.literal(name),
    ...Object.fromEntries(
      Object.entries(defaults).map(([k, v]) => [k, optionOf(v, choices[k], scheduled.includes(k))]),
    ),
    ...extra,
  });

const named = (kind: string, registry: Record<string, unknown>, options: z.ZodType[]) =>
  z.discriminatedUnion("name", options as never, {
    error: (issue) =>
      unknownName(kind, String((issue.input as { name?: unknown } | undefined)?.name), Object.keys(registry)),
  });

const methodChoices = Object.entries(methods).map(([name, m]) =>
  choice(name, m as Entry, Object.keys((m.scalars as ((o: object) => object) | undefined)?.(m.defaults) ?? {}), {
    view: view.optional(),
    ...("released" in m && { faithful: z.boolean().default(false) }),
  }),
);

/** Bounds on the gradients (graphs/clipping.ts). */
const clipping = {
  clipNorm: number.positive().optional(),
  clipInfinityNorm: number.positive().optional(),
  clipValue: number.positive().optional(),
};

export const recipeSchema = z.strictObject({
  summary: z.string().default(""),
  data: z.strictObject({
    name: z.enum(Object.keys(datasets) as [string, ...string[]]).default("imageFolder"),
    /** Folder; given by --data where it is empty. */
    root: z.string().default(""),
    /** Pixels a side of the views. */
    size: positive,
    /** Images are decoded to this short side at most. */
    shortSide: positive.default(256),
    /** Channels of the images: 1 grey, 3 RGB, 4 RGB and alpha. */
    channels: z.literal(channelCounts).default(3),
    limit: positive.optional(),
    /** Where decoded images are kept: memory (up to 2 GiB), disk (the user's cache, up to 20 GiB, for the next run as well), none. */
    cache: z.enum(cachings).default("memory"),
  }),
  backbone: named(
    "backbone",
    backbones,
    Object.entries(backbones).map(([name, b]) => choice(name, b as Entry)),
  ),
  method: named("method", methods, methodChoices),
  optimizer: named(
    "optimizer",
    optimizers,
    Object.entries(optimizers).map(([name, o]) => choice(name, o as Entry, [], { lr: schedule, ...clipping })),
  ),
  batchSize: positive,
  /** Batches that make one update: accumulate × batchSize images a step, for the memory of one batch. */
  accumulate: positive.default(1),
  /** fast: Winograd's tiles and products over the batch where they are quicker; exact: rounded as the runtime's own convolution. */
  convolutions: z.enum(["fast", "exact"]).default("fast"),
  /** fp32; on a card also tf32 (products of 10 bits), fp16 (with a loss scale), and for ViTs bf16. */
  precision: z.enum(Object.keys(precisions) as [Precision, ...Precision[]]).default("fp32"),
  /** Of fp16: where it starts, and after how many finite steps it doubles. */
  lossScale: z
    .strictObject({
      start: number.positive().default(lossScaleDefaults.start),
      growthInterval: positive.default(lossScaleDefaults.growthInterval),
    })
    .prefault({}),
  epochs: positive,
  seed: z.number().int().nonnegative().default(0),
  pixels: z.enum(["float", "pil"]).default("float"),
  evaluate: z
    .strictObject({
      everyEpochs: positive.default(1),
      k: positive.default(20),
      temperature: number.positive().default(0.07),
      /** Patches whose features are averaged for an image; 1: one centre crop. */
      patches: positive.default(1),
      /** Share of the image's area that a patch covers. */
      patchScale: number.positive().max(1).default(0.25),
    })
    .prefault({}),
  checkpoint: z.strictObject({ everySteps: positive.default(200), keep: positive.default(2) }).prefault({}),
});

/** An entry of a registry by name, with some of its options; what the compiler checks of a recipe is what the schema checks. */
type Chosen<Registry extends Record<string, Entry>, More> = {
  [N in keyof Registry]: { name: N } & Omit<Partial<Registry[N]["defaults"]>, keyof More> & More;
}[keyof Registry];
/** Parts of a method's views that a recipe replaces. */
export type ViewInput = z.input<typeof view>;
export type MethodInput = Chosen<typeof methods, { view?: ViewInput; faithful?: boolean }>;
export type OptimizerInput = Chosen<typeof optimizers, Clipping & { lr: Schedule }>;

/** A recipe as it is written. */
export type RecipeInput = Omit<z.input<typeof recipeSchema>, "backbone" | "method" | "optimizer"> & {
  backbone: Chosen<typeof backbones, object>;
  method: MethodInput;
  optimizer: OptimizerInput;
};
/** A recipe with every default written out. */
export interface Recipe {
  summary: string;
  data: {
    name: string;
    root: string;
    size: number;
    shortSide: number;
    channels: Channels;
    limit?: number;
    cache: Caching;
  };
  backbone: { name: keyof typeof backbones } & Record<string, unknown>;
  method: { name: keyof typeof methods } & Record<string, unknown>;
  optimizer: { name: keyof typeof optimizers; lr: never } & Clipping & Record<string, unknown>;
  batchSize: number;
  accumulate: number;
  convolutions: "fast" | "exact";
  precision: Precision;
  lossScale: LossScale;
  epochs: number;
  seed: number;
  pixels: "float" | "pil";
  evaluate: { everyEpochs: number; k: number; temperature: number; patches: number; patchScale: number };
  checkpoint: { everySteps: number; keep: number };
}

/** A checked recipe with all defaults; errors name the place, what was expected and what came. */
export function resolveRecipe(input: unknown): Recipe {
  const result = recipeSchema.safeParse(input);
  if (result.success) return released(result.data as unknown as Recipe, input as RecipeInput);
  throw new Error(result.error.issues.map((issue) => sentence(issue, input)).join("\n"));
}

/** What `method.faithful` sets is written out; an option that says otherwise is refused. */
function released(recipe: Recipe, { method: asked }: RecipeInput): Recipe {
  const method = faithfully(methods[recipe.method.name] as unknown as Method<Recipe["method"]>, recipe.method);
  for (const [option, value] of Object.entries(method))
    if (option in asked && value !== recipe.method[option])
      throw new Error(
        `method.${option}=${JSON.stringify(recipe.method[option])} contradicts method.faithful, which sets it to ${JSON.stringify(value)}. Leave one of them out.`,
      );
  return { ...recipe, method };
}

function sentence(issue: z.core.$ZodIssue, input: unknown): string {
  const path = issue.path.join(".");
  const received = issue.path.reduce<unknown>(
    (v, key) => (v as Record<PropertyKey, unknown> | undefined)?.[key],
    input,
  );
  const came = received === undefined ? "nothing" : JSON.stringify(received);
  switch (issue.code) {
    case "unrecognized_keys":
      return unknownName(path ? `option of ${path}` : "option", issue.keys[0]!, knownKeys(issue.path, input));
    case "invalid_type":
      return `Expected ${issue.expected === "int" ? "a whole number" : `${/^[aeiou]/.test(issue.expected) ? "an" : "a"} ${issue.expected}`} for ${path} but received ${came}.`;
    case "too_small":
      return `Expected a number ${issue.inclusive ? "of at least" : "above"} ${issue.minimum} for ${path} but received ${came}.`;
    case "invalid_value":
      return `Expected one of ${issue.values.join(", ")} for ${path} but received ${came}.`;
    case "invalid_union":
      return issue.message.startsWith("Unknown")
        ? issue.message
        : `Expected a number or a schedule for ${path} but received ${came}.`;
    case "custom":
    case "invalid_element":
    case "invalid_format":
    case "invalid_key":
    case "not_multiple_of":
    case "too_big":
    default:
      return `${path}: ${issue.message} (received ${came}).`;
  }
}

/** The options that exist at a path. */
function knownKeys(path: readonly PropertyKey[], input: unknown): string[] {
  const [head] = path;
  if (head === undefined) return Object.keys(recipeSchema.shape);
  const name = (input as Record<string, { name?: string }>)[head as string]?.name ?? "";
  if (path.length === 2 && path[1] === "view") return Object.keys(view.shape);
  const registry = { method: methods, backbone: backbones, optimizer: optimizers }[head as string] as
    Record<string, { defaults: object }> | undefined;
  if (registry?.[name])
    return [
      ...Object.keys(registry[name].defaults),
      ...(head === "optimizer"
        ? ["lr", ...Object.keys(clipping)]
        : head === "method"
          ? ["view", ...("released" in registry[name] ? ["faithful"] : [])]
          : []),
    ];
  const part = (recipeSchema.shape as Record<string, unknown>)[head as string] as
    { shape?: object; unwrap?(): { shape: object } } | undefined; // a group with a default is wrapped
  return Object.keys(part?.shape ?? part?.unwrap?.().shape ?? {});
}

/** Applies --set a.b=value: JSON where it parses, else text. */
export function withSettings(recipe: RecipeInput, settings: readonly string[]): RecipeInput {
  const out = structuredClone(recipe) as Record<string, unknown>;
  for (const setting of settings) {
    const at = setting.indexOf("=");
    if (at < 1) throw new Error(`Expected --set name=value but received "${setting}".`);
    const path = setting.slice(0, at).split(".");
    let node = out;
    for (const key of path.slice(0, -1)) node = (node[key] ??= {}) as Record<string, unknown>;
    if (typeof node !== "object")
      throw new Error(`--set ${setting}: ${path.slice(0, -1).join(".")} is a value, not a group.`);
    const text = setting.slice(at + 1);
    // another entry of a registry brings its own options; data's are those of all datasets
    if (path.length === 2 && path[1] === "name" && path[0] !== "data" && node.name !== text)
      for (const key of Object.keys(node)) if (key !== "lr") delete node[key];
    node[path.at(-1)!] = parsed(text);
  }
  return out as RecipeInput;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
