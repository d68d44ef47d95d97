/** The one mutable object of graphs/: collects parameters, state and scalars while a graph is built. */
import { grouped } from "../src/grouped.js";
import { constant, dims, input, show, type Device, type Dialect, type Origin, type Value } from "../src/onnx/graph.js";
import { Add, Cast, Mul, stopGradient, Sub, trimmed, untrimmed } from "../src/ops/index.js";
import type { Every, Init, Parameter, Part, State } from "../src/step.js";
import { stacked, widthOf } from "./stack.js";

/** What the layers' products are computed in. */
export type Compute = "float32" | "float16" | "bfloat16";

export type Mode = "train" | "eval";

/** apart: the arithmetic between steps goes tensor by tensor; stacked: tensors with equal rules lie in one (graphs/stack.ts). */
export type Layout = "apart" | "stacked";

export interface Scope {
  /** Dotted path; names of parameters below it start with it. */
  readonly path: string;
  readonly mode: Mode;
  readonly dialect: Dialect;
  /** Where the step will run: what is quickest differs. */
  readonly device: Device;
  /** Default stacked on a card, where each kernel is launched for itself, else apart. */
  readonly layout: Layout;
  /**
   * The type that layers compute their products in, and convolutional networks keep their activations in. Parameters, statistics, softmax
   * and whatever a method does with embeddings stay float32.
   */
  readonly compute: Compute;
  /** Batch statistics are taken over this many equal groups of the batch: what several devices do to BatchNorm. */
  readonly bnGroups: number;
  /**
   * fast: on the CPU, by products over the whole batch where that is quicker (Winograd's tiles round about five times as coarsely, 1e-6 of the largest
   * output); exact: every convolution is the runtime's own.
   */
  readonly convolutions: "fast" | "exact";
  /** learned: BatchNorm goes by the batch, and its scale and shift are trained; fixed: it stays as it is, detectron2's FrozenBatchNorm. */
  readonly batchNorms: "learned" | "fixed";
  /** When state declared here moves: the optimizer's once an update. */
  readonly every: Every;
  child(name: string | number): Scope;
  /** A child for several parameters in one value: its states hold theirs one after the other, and are saved as those of `parts`. */
  joined(name: string, parts: readonly Part[]): Scope;
  /** The same scope with other settings. */
  with(
    settings: Partial<
      Pick<Scope, "mode" | "layout" | "compute" | "bnGroups" | "convolutions" | "batchNorms" | "every">
    >,
  ): Scope;
  /** The same scope, its new parameters without updates. */
  frozen(): Scope;
  /** A parameter, made at its first use; later uses (a second view) get the same value. */
  parameter(name: string, shape: readonly number[], init: Init): Value;
  /** A state's latest value: what `update` gave it last, else what entered the step. */
  state(name: string, shape: readonly number[], init: Init): Value;
  update(name: string, next: Value): void;
  /** A state that nothing reads but its own average: state ← (1 − share)·state + share·now. Stacked, all such move together. */
  average(name: string, shape: readonly number[], init: Init, now: Observed, share: number): void;
  /** x in the type of products; one value is cast once, however often it is read. */
  narrowed(x: Value): Value;
  /** A queue [K, …] written in a ring; `push` gives the rows that enter it after the step. */
  ring(name: string, shape: readonly number[], init: Init): Value;
  push(name: string, rows: Value): void;
  /** A scheduled number, float32 []. */
  scalar(name: string): Value;
  /** A teacher: its parameters are state, each momentum·teacher + (1 − momentum)·student, updated before they are read. */
  ema(name: string, student: Scope, momentum: Value): Scope;
}

/** What an average takes up: scale·of(value). */
export interface Observed {
  value: Value;
  scale?: number;
  /** An elementwise rule; equal names, equal rules. */
  read?: { name: string; of(v: Value): Value };
}

interface Entry {
  input: Value;
  init: Init;
  every: Every;
  parts?: readonly (Part & { init: Init })[];
  next?: Value;
  rows?: Value;
  /** Something has its value: it stays as it is. */
  taken?: boolean;
  /** What it takes up in this step, in turn, where that is left to the end. */
  averages?: (Observed & { share: number })[];
}

/** What a root scope has collected. */
export interface Collected {
  parameters: Map<string, Parameter>;
  states: Map<string, Entry>;
  scalars: Map<string, Value>;
  /** Values and their casts to the type of products. */
  casts: Map<Value, Value>;
  /** Parameters of teachers in this step, by name. */
  taught: Map<string, Value>;
}

/** A root scope and what it collects. `frozen(path)`: parameters that get no update. */
export function rootScope(
  dialect: Dialect,
  mode: Mode = "train",
  frozen: (path: string) => boolean = () => false,
  device: Device = "cpu",
): { scope: Scope; collected: Collected } {
  const collected: Collected = {
    parameters: new Map(),
    states: new Map(),
    scalars: new Map(),
    casts: new Map(),
    taught: new Map(),
  };
  const settings: Settings = {
    path: "",
    dialect,
    device,
    layout: device === "cuda" ? "stacked" : "apart",
    mode,
    compute: "float32",
    bnGroups: 1,
    convolutions: "fast",
    batchNorms: "learned",
    every: "batch",
    frozen,
  };
  return { scope: makeScope(collected, settings), collected };
}

interface Settings {
  path: string;
  dialect: Dialect;
  device: Device;
  layout: Layout;
  mode: Mode;
  compute: Compute;
  bnGroups: number;
  convolutions: "fast" | "exact";
  batchNorms: "learned" | "fixed";
  every: Every;
  frozen: (path: string) => boolean;
  teaching?: Teaching;
  /** Of the tensors that a state joins: where each would have its own, and its shape. */
  parts?: readonly Part[];
}

/** What a teacher's scope follows; `root`: where it begins. */
interface Teaching {
  student: Scope;
  momentum: Value;
  root: { teacher: string; student: string };
}

const join = (path: string, name: string | number): string => (path ? `${path}.${name}` : String(name));

function makeScope(collected: Collected, settings: Settings): Scope {
  const { path, dialect, device, layout, mode, compute, bnGroups, convolutions, batchNorms, every, frozen, teaching } =
    settings;
  const origin = { path, dialect, device };
  const { parameters, states, scalars, casts } = collected;

  const declare = (name: string, shape: readonly number[], init: Init, moves = every): Entry => {
    const full = join(path, name);
    const known = states.get(full);
    if (known) return checked(full, known.input, shape) && known;
    const parts = settings.parts?.map((p) => ({ ...p, name: join(p.name, name), init }));
    const entry: Entry = { input: input(full, "float32", shape, origin), init, every: moves, parts };
    states.set(full, entry);
    return entry;
  };
  const entryOf = (name: string): Entry => {
    const entry = states.get(join(path, name));
    if (!entry) throw new Error(`${path || "root"}: state "${name}" is updated before it is declared.`);
    return entry;
  };

  const learned = (name: string, shape: readonly number[], init: Init): Value => {
    const full = join(path, name);
    const known = parameters.get(full);
    if (known) return checked(full, known.value, shape);
    const value = input(full, "float32", shape, origin);
    parameters.set(full, { name: full, value, init, trainable: !frozen(full) });
    return value;
  };
  /** teacher ← m·teacher + (1 − m)·student, once a step; no gradient reaches the student through it */
  const taught = (name: string, shape: readonly number[], init: Init): Value => {
    const own = teaching!.student.parameter(name, shape, init);
    const full = join(path, name);
    if (layout === "stacked" && !collected.taught.has(full)) taughtTogether(collected, full, teaching!, origin);
    const known = collected.taught.get(full);
    if (known) return checked(full, known, shape);
    const entry = declare(name, shape, { name: "copy", of: own.name! }, "update");
    entry.next = untrimmed(mixed(trimmed(own), trimmed(entry.input), teaching!.momentum), own);
    collected.taught.set(full, entry.next);
    return entry.next;
  };

  return {
    path,
    mode,
    dialect,
    device,
    layout,
    compute,
    bnGroups,
    convolutions,
    batchNorms,
    every,
    child: (name) =>
      makeScope(collected, {
        ...settings,
        path: join(path, name),
        parts: settings.parts?.map((p) => ({ ...p, name: join(p.name, name) })),
        teaching: teaching && { ...teaching, student: teaching.student.child(name) },
      }),
    joined: (name, parts) =>
      makeScope(collected, {
        ...settings,
        path: join(path, name),
        parts: parts.map((p) => ({ ...p, name: join(path, p.name) })),
      }),
    with: (changed) => makeScope(collected, { ...settings, ...changed }),
    frozen: () => makeScope(collected, { ...settings, frozen: () => true }),
    parameter: (name, shape, init) => (teaching ? taught : learned)(name, shape, init),
    state: (name, shape, init) => {
      const entry = declare(name, shape, init);
      entry.taken = true;
      return entry.averages?.reduce(averaged, entry.input) ?? entry.next ?? entry.input;
    },
    update: (name, next) => {
      const entry = entryOf(name);
      checked(join(path, name), next, entry.input.shape as number[]);
      entry.next = next;
    },
    average: (name, shape, init, now, share) => {
      const entry = declare(name, shape, init);
      if (layout === "stacked") (entry.averages ??= []).push({ ...now, share });
      else entry.next = averaged(entry.next ?? entry.input, { ...now, share });
    },
    narrowed: (x) => {
      if (compute === "float32" || x.dtype === compute) return x;
      const known = casts.get(x);
      if (known?.dtype === compute) return known;
      const cast = Cast(x, compute);
      casts.set(x, cast);
      return cast;
    },
    ring: (name, shape, init) => declare(name, shape, init).input,
    push: (name, rows) => {
      const entry = entryOf(name);
      const [length, count] = [entry.input.shape[0] as number, rows.shape[0] as number];
      if (length % count)
        throw new Error(
          `${join(path, name)}: a queue of ${length} rows takes batches that divide it, got ${count} rows a step.`,
        );
      entry.rows = rows;
    },
    scalar: (name) => {
      const known = scalars.get(name) ?? input(name, "float32", [], { path: "", dialect, device });
      scalars.set(name, known);
      return known;
    },
    ema: (name, student, momentum) => {
      const own = join(path, name);
      const root = { teacher: own, student: student.path };
      return makeScope(collected, { ...settings, path: own, teaching: { student, momentum, root } });
    },
  };
}

/** (1 − share)·before + share·scale·of(value) */
function averaged(before: Value, { value, scale = 1, read, share }: Observed & { share: number }): Value {
  const now = read?.of(value) ?? value;
  return Add(Mul(before, 1 - share), Mul(scale === 1 ? now : Mul(now, scale), share));
}

/** m·teacher + (1 − m)·student */
const mixed = (student: Value, teacher: Value, momentum: Value): Value =>
  Add(Mul(stopGradient(student), Sub(1, momentum)), Mul(teacher, momentum));

/**
 * On a card: what a child of a teacher (its backbone, a head) takes from the student's same child is stacked, and one kernel for all where
 * each by itself would be three. `asked` is the first of its parameters; the student has been built by then.
 */
function taughtTogether(
  { parameters, states, taught }: Collected,
  asked: string,
  { root, momentum }: Teaching,
  origin: Origin,
): void {
  const child = asked.slice(root.teacher.length + 1).split(".")[0]!;
  const known = [...parameters.values()].filter((p) => p.name.startsWith(`${root.student}.${child}.`));
  const named = known.map((p) => ({ name: root.teacher + p.name.slice(root.student.length), value: p.value }));
  const missing = named.filter(({ name }) => !taught.has(name));
  for (const group of grouped(missing, ({ value }) => widthOf(value)).values()) {
    const students = group.map((p) => p.value);
    const { shape, join, part } = stacked(students);
    const parts = group.map(({ name, value }) => {
      const init = { name: "copy", of: value.name! } as const;
      return { name, shape: dims(value), init };
    });
    const name = `${parts[0]!.name}.joined`;
    const before = input(name, "float32", shape, origin);
    const next = mixed(join(students), before, momentum);
    states.set(name, { input: before, init: parts[0]!.init, every: "update", parts, next });
    part(next).forEach((v, i) => taught.set(parts[i]!.name, v));
  }
}

function checked(path: string, value: Value, shape: readonly number[]): Value {
  if (value.shape.join() !== shape.join())
    throw new Error(`${path} is ${show(value)} already and cannot be [${shape.join(",")}] as well.`);
  return value;
}

/** Every state that a step changed, with its next value or its new rows; state only read stays out of the step. */
export function statesOf({ states }: Collected): State[] {
  const all = [...states];
  const apart = all.filter(([, e]) => !e.averages || e.taken);
  const averages = all.filter(([, e]) => e.averages && !e.taken);
  const kind = ([, { input, every, averages }]: [string, Entry]): string =>
    JSON.stringify([widthOf(input), every, averages!.map(({ read, share }) => [read?.name, share])]);
  return [
    ...apart.map(([name, { input, init, every, parts, next, rows, averages }]): State => {
      if (rows) return { name, input, init, every, rows };
      return { name, input, init, every, parts, next: averages?.reduce(averaged, input) ?? next ?? input };
    }),
    ...[...grouped(averages, kind).values()].map(averagedTogether),
  ];
}

/** Averages of one kind as one state. */
function averagedTogether(group: [string, Entry][]): State {
  const entries = group.map(([, e]) => e);
  const { shape, rows, join } = stacked(entries.map((e) => e.input));
  const [name, { init, every, input: first, averages }] = group[0]!;
  const before = input(`${name}.joined`, "float32", shape, first.origin);
  const parts = group.map(([own, e]) => ({ name: own, shape: dims(e.input), init: e.init }));
  const next = averages!.reduce((old, { read, share }, turn) => {
    const value = join(entries.map((e) => e.averages![turn]!.value));
    const scales = entries.flatMap((e, i) => Array<number>(rows[i]!).fill(e.averages![turn]!.scale ?? 1));
    const now = Mul(read?.of(value) ?? value, constant([shape[0], 1], scales));
    return averaged(old, { value: now, share });
  }, before);
  return { name: before.name!, input: before, init, every, parts, next };
}
