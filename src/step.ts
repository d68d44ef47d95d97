/** What a training step is: the value that graphs/step.ts returns and src/artifacts packages. */
import { dims, type Dialect, type Value } from "./onnx/graph.js";
import { random } from "./random.js";
import { bytesOf, fromBytes, sizeOf, zeros, type Tensor, type Tensors } from "./tensor.js";

/** How a tensor starts: plain data, so that a manifest can carry it. */
export type Init =
  | { name: "constant"; value: number }
  /** N(mean, std²) */
  | { name: "normal"; std: number; mean?: number }
  /** N(0, std²) cut at ±2 */
  | { name: "truncatedNormal"; std: number }
  | { name: "uniform"; low: number; high: number }
  /** rows drawn from N(0, I), then L2-normalised: a queue of negatives */
  | { name: "unitRows" }
  /** the same with columns of length 1, as ISD v1's code starts its queue */
  | { name: "unitColumns" }
  /** equal to another tensor of the step: a teacher starts as its student */
  | { name: "copy"; of: string }
  /** given values: fixed position embeddings, weights of a file */
  | { name: "values"; data: ArrayLike<number> };

export interface Parameter {
  /** The reference implementation's state-dict path under its scope, e.g. student.backbone.conv1.weight. */
  readonly name: string;
  readonly value: Value;
  readonly init: Init;
  readonly trainable: boolean;
}

/**
 * When state moves, where several batches make one update and where one is refused. batch: `next` of one batch is `input` of the following
 * (BatchNorm's statistics); update: once an applied update; attempt: once an update, applied or not (a loss scale).
 */
export type Every = "batch" | "update" | "attempt";

/** A tensor of a state that joins several: they lie in it one after the other. */
export interface Part {
  readonly name: string;
  readonly shape: readonly number[];
}

/** Enters a step as `input`, leaves it as `next` (same shape), or as new `rows` that the engine writes at (step · rows) mod K. */
export type State = {
  readonly name: string;
  readonly input: Value;
  readonly init: Init;
  /** When it moves; default update. */
  readonly every?: Every;
  /** Where the state joins several tensors: what each is called and is in every file, whatever the layout of the step, and starts as. */
  readonly parts?: readonly (Part & { readonly init: Init })[];
} & ({ readonly next: Value } | { readonly rows: Value });

/** Gradient accumulation: so many batches make one update. */
export interface Accumulation {
  readonly batches: number;
  /** Each enters the first batch of an update as zeros, and every other one as the `next` of the batch before. */
  readonly sums: readonly { readonly name: string; readonly input: Value; readonly next: Value }[];
}

export interface TrainingStep {
  readonly dialect: Dialect;
  /** Views and draws. */
  readonly inputs: readonly Value[];
  /** float32 []: whatever is scheduled. */
  readonly scalars: readonly Value[];
  readonly parameters: readonly Parameter[];
  readonly state: readonly State[];
  readonly loss: Value;
  readonly metrics: Readonly<Record<string, Value>>;
  /** bool []: every gradient is finite. */
  readonly applied: Value;
  readonly gradients: ReadonlyMap<Parameter, Value>;
  /** p ← p − update */
  readonly updates: ReadonlyMap<Parameter, Value>;
  /** Without it each batch makes an update. With it loss, metrics, gradients and updates are those of the batches so far: of the whole at the last. */
  readonly accumulation?: Accumulation;
  /** The encoder in evaluation mode, for eval_model.onnx: its inputs are the image and the statistics it reads. */
  readonly evaluation?: { readonly inputs: readonly Value[]; readonly outputs: Readonly<Record<string, Value>> };
}

const drawn = (init: Exclude<Init, { name: "copy" }>, shape: readonly number[], seed: number, name: string): Tensor => {
  const t = zeros("float32", shape);
  const r = random(seed, "init", name);
  const fill = (f: (i: number) => number): void => {
    for (let i = 0; i < t.data.length; i++) t.data[i] = f(i);
  };
  switch (init.name) {
    case "constant":
      if (init.value) t.data.fill(init.value);
      break;
    case "normal":
      fill(() => (init.mean ?? 0) + init.std * r.normal());
      break;
    case "truncatedNormal":
      fill(() => {
        let z = r.normal();
        while (Math.abs(z * init.std) > 2) z = r.normal();
        return z * init.std;
      });
      break;
    case "uniform":
      fill(() => r.uniform(init.low, init.high));
      break;
    case "unitRows":
      fill(() => r.normal());
      normalizeRows(t.data, sizeOf(shape.slice(1)));
      break;
    case "unitColumns":
      fill(() => r.normal());
      normalizeColumns(t.data, sizeOf(shape.slice(1)));
      break;
    case "values":
      t.data.set(init.data);
      break;
    default:
      init satisfies never;
  }
  return t;
};

/** Rows of `width` to length 1, in place. */
export function normalizeRows(data: Float32Array, width: number): void {
  for (let at = 0; at < data.length; at += width) {
    const row = data.subarray(at, at + width);
    const norm = Math.sqrt(row.reduce((s, v) => s + v * v, 0));
    row.forEach((v, i) => (row[i] = v / norm));
  }
}

/** Columns of a matrix with `width` of them to length 1, in place. */
export function normalizeColumns(data: Float32Array, width: number): void {
  const squares = new Float64Array(width);
  data.forEach((v, i) => (squares[i % width]! += v * v));
  data.forEach((v, i) => (data[i] = v / Math.sqrt(squares[i % width]!)));
}

type Parted = Part & { readonly parts?: readonly Part[] };

/** What a state is called and is in files: its parts, or itself. */
export const partsOf = ({ name, shape, parts }: Parted): readonly Part[] => parts ?? [{ name, shape }];

/** Those tensors as views into the state's own. */
export function viewsOf(state: Parted, t: Tensor): Tensors {
  let at = 0;
  const view = ({ name, shape }: Part): [string, Tensor] => {
    const data = t.data.subarray(at, (at += sizeOf(shape))) as never;
    return [name, { dtype: t.dtype, shape, data }];
  };
  return Object.fromEntries(partsOf(state).map(view));
}

/** Parameters and state as every file has them. */
export const tensorsOf = ({ parameters, state }: Pick<TrainingStep, "parameters" | "state">) => [
  ...parameters.map((p) => ({ name: p.name, shape: dims(p.value), init: p.init })),
  ...state.flatMap((s) => s.parts ?? [{ name: s.name, shape: dims(s.input), init: s.init }]),
];

/** The tensors a step starts from: a pure function of (step, seed); `given` replaces draws by name, and copies follow it. */
export function initialTensors(
  step: Pick<TrainingStep, "parameters" | "state">,
  seed: number,
  given: Tensors = {},
): Tensors {
  const all = tensorsOf(step);
  const out: Tensors = {};
  for (const { name, shape, init } of all)
    if (name in given) out[name] = given[name]!;
    else if (init.name !== "copy") out[name] = drawn(init, shape, seed, name);
  for (const { name, init } of all)
    if (init.name === "copy" && !(name in out)) {
      const source = out[init.of];
      if (!source) throw new Error(`"${name}" starts as a copy of "${init.of}", which the step does not have.`);
      out[name] = fromBytes(source.dtype, source.shape, bytesOf(source));
    }
  return out;
}
