/** What an op is: its type rule and its reverse rule, side by side, and the call that puts one node into a graph. */
import {
  constant,
  show,
  type Attributes,
  type Device,
  type Dialect,
  type Node,
  type Operand,
  type Origin,
  type Type,
  type Value,
} from "../onnx/graph.js";

/** An input of a call: null leaves an optional one out. */
export type Inputs = readonly (Operand | null)[];
/** Values of a node's inputs as a reverse rule sees them (an omitted optional input is undefined). */
type Given = readonly Value[];

/**
 * Reverse rule: cotangents of the outputs (undefined where nothing flowed), inputs, outputs, node → cotangents of the inputs.
 * null: that input has no gradient.
 */
export type Vjp = (
  g: readonly Value[],
  inputs: Given,
  outputs: readonly Value[],
  attributes: Attributes,
) => readonly (Value | null)[];

export interface OpSpec {
  /** Types of the outputs; throws where the inputs do not fit (the caller adds scope and op name). */
  readonly infer: (
    inputs: readonly Type[],
    attributes: Attributes,
    values: readonly (Value | undefined)[],
  ) => readonly Type[];
  /** A rule in standard ops; "zero": piecewise constant; "none": no gradient exists here, asking for one is an error. */
  readonly vjp: Vjp | "zero" | "none";
  /** The rule in the training library's ops, where it is faster. */
  readonly fused?: Vjp;
  /** Devices that have kernels for the fused rule; default all. */
  readonly fusedOn?: readonly Device[];
  /** Which outputs carry a gradient. Default "first": asking for one through another output is an error. */
  readonly differentiable?: "first" | "all";
  /** "" (ONNX) or "com.microsoft". */
  readonly domain?: "" | "com.microsoft";
  /** The kernel writes every output, read or not: none may be left out. */
  readonly writesAll?: boolean;
  /** Needs the training library. */
  readonly training?: boolean;
  /** Only so many inputs are the node's own; its reverse rule sees those after them. Default all. */
  readonly reads?: number;
  /** The opset that brought it, where that is newer than the models' own. */
  readonly since?: number;
}

export interface Op extends OpSpec {
  readonly type: string;
  readonly domain: "" | "com.microsoft";
}

export const op = (type: string, spec: OpSpec): Op => ({ type, domain: "", ...spec });

/** Where a node stands: with the last input that has a path, so a layer stands with its weight and a sum with its newest term. */
function originOf(inputs: readonly (Value | null)[]): Origin | undefined {
  const known = inputs.filter((v) => v?.origin);
  return (known.findLast((v) => v!.origin!.path) ?? known[0])?.origin;
}

/** Puts one node into the graph and returns its outputs. Numbers become constants of the first value's dtype. */
export function apply(o: Op, given: Inputs, attributes: Attributes = {}): readonly Value[] {
  const dtype = given.find((v): v is Value => typeof v === "object" && v !== null)?.dtype ?? "float32";
  const inputs = given.map((v) => (typeof v === "number" ? constant([], v, dtype) : v));
  const origin = originOf(inputs);
  let types: readonly Type[];
  try {
    types = o.infer(
      inputs.filter((v) => v !== null),
      attributes,
      inputs.map((v) => v ?? undefined),
    );
  } catch (error) {
    const shapes = inputs.flatMap((v) => (v ? [show(v)] : [])).join(" × ");
    throw new Error(`${origin?.path || "graph"}: ${o.type} ${(error as Error).message}, got ${shapes}.`, {
      cause: error,
    });
  }
  const outputs: Value[] = [];
  const node: Node = { op: o, inputs, attributes, outputs, origin };
  types.forEach((t, index) => outputs.push({ dtype: t.dtype, shape: t.shape, node, index, origin }));
  return outputs;
}

/** The dialect that a value was built in. */
export const dialectOf = (...values: (Value | null | undefined)[]): Dialect =>
  values.find((v) => v?.origin)?.origin!.dialect ?? "portable";

/** The device that a value was built for. */
export const deviceOf = (...values: (Value | null | undefined)[]): Device =>
  values.find((v) => v?.origin)?.origin!.device ?? "cpu";

export type Unary = (x: Value) => Value;
export type Binary = (a: Operand, b: Operand) => Value;

export function unary(type: string, spec: OpSpec): Unary {
  const o = op(type, spec);
  return Object.assign((x: Value) => apply(o, [x])[0]!, { op: o });
}
export function binary(type: string, spec: OpSpec): Binary {
  const o = op(type, spec);
  return Object.assign((a: Operand, b: Operand) => apply(o, typeof a === "number" ? ordered(a, b) : [a, b])[0]!, {
    op: o,
  });
}

/** (number, value): the number takes the value's dtype. */
function ordered(a: number, b: Operand): Inputs {
  return [typeof b === "number" ? a : constant([], a, b.dtype), b];
}

/**
 * y, with a reverse rule of its own: the nodes between `inputs` and y are not differentiated, so that the rule may recompute what it
 * needs instead of keeping it. The rule is given g, the inputs and y.
 */
export function withRule(
  y: Value,
  inputs: readonly Value[],
  rule: (g: Value, y: Value) => readonly (Value | null)[],
): Value {
  const own = op("Identity", { infer: ([v]) => [v!], vjp: ([g], _, [out]) => [null, ...rule(g!, out!)], reads: 1 });
  return apply(own, [y, ...inputs])[0]!;
}
