/** Immutable symbolic graphs: a value knows the node that made it, a node knows its op and its inputs. */
import { tensor, type DType, type Tensor } from "../tensor.js";
import type { Op } from "../ops/op.js";

/** A dim is a number or a symbol. Training graphs are all numbers. */
export type Dim = number | string;
export type Shape = readonly Dim[];
export interface Type {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** Which rules reverse mode uses: standard ops only, or the training library's fused ops. */
export type Dialect = "portable" | "training";

/** Where a graph is to run. */
export type Device = "cpu" | "cuda";

/** Where a value stands: the path of the nearest parameter, and the dialect and the device of the scope it was built in. */
export interface Origin {
  readonly path: string;
  readonly dialect: Dialect;
  /** Where it is to run; default cpu. */
  readonly device?: Device;
}

export type Attribute = number | string | readonly number[] | { readonly float: number } | Tensor;
export type Attributes = Readonly<Record<string, Attribute | undefined>>;

export interface Value extends Type {
  /** Graph inputs have a name and no node; constants have data; the others are output `index` of their node. */
  readonly name?: string;
  readonly constant?: Tensor;
  readonly node?: Node;
  readonly index?: number;
  readonly origin?: Origin;
}

export interface Node {
  readonly op: Op;
  /** null: an optional input left out. */
  readonly inputs: readonly (Value | null)[];
  readonly attributes: Attributes;
  readonly outputs: readonly Value[];
  readonly origin?: Origin;
}

/** What ops accept: a value, or a number that becomes a constant of the other operand's dtype. */
export type Operand = Value | number;

/** A graph input. @example const x = input("x", "float32", ["B", 3, 32, 32]) */
export function input(name: string, dtype: DType, shape: Shape, origin?: Origin): Value {
  return { name, dtype, shape, origin };
}

export function constantOf(t: Tensor): Value {
  return { dtype: t.dtype, shape: t.shape, constant: t };
}

/** A constant; `values` may be one number for a scalar. @example constant([2], [0.5, 2]) */
export function constant(
  shape: readonly number[],
  values: readonly number[] | number,
  dtype: DType = "float32",
): Value {
  return constantOf(tensor(dtype, shape, typeof values === "number" ? [values] : values));
}

/** An int64 vector, as axes, shapes and indices are given. */
export function int64s(values: readonly number[]): Value {
  const symbol = values.find((v) => typeof v !== "number");
  if (symbol !== undefined)
    throw new Error(
      `Expected whole numbers but received [${values.join(",")}]: a graph that is differentiated has no symbolic dims.`,
    );
  return constant([values.length], values, "int64");
}

/** The product of dims over a number: a number times symbols, so that the half of "2*B" is B again. */
export function dimProduct(factors: readonly Dim[], over = 1): Dim {
  const parts = factors.flatMap<Dim>((d) => (typeof d === "number" ? [d] : d.split("*")));
  const symbols = parts.filter((p) => Number.isNaN(Number(p)));
  const exact = parts.reduce<number>((n, p) => (Number.isNaN(Number(p)) ? n : n * Number(p)), 1) / over;
  const number = Math.abs(exact - Math.round(exact)) < 1e-9 ? Math.round(exact) : exact;
  return symbols.length === 0 ? number : [...(number === 1 ? [] : [number]), ...symbols].join("*");
}

/** The dims of a value whose shape must be all numbers. */
export function dims(x: Type): number[] {
  return x.shape.map((d) => {
    if (typeof d !== "number") throw new Error(`Expected a shape of numbers but received [${x.shape.join(",")}].`);
    return d;
  });
}
export const rank = (x: Type): number => x.shape.length;

/** dtype[1,2,N] */
export const show = (t: Type): string => `${t.dtype}[${t.shape.join(",")}]`;

/** Nodes that the values depend on, inputs first (no recursion: networks are deep). */
export function nodesOf(values: readonly Value[]): Node[] {
  const order: Node[] = [];
  const done = new Set<Node>();
  for (const { node: root } of values) {
    const stack = root ? [root] : [];
    while (stack.length) {
      const node = stack.at(-1)!;
      const open = done.has(node) ? [] : node.inputs.flatMap((x) => (x?.node && !done.has(x.node) ? [x.node] : []));
      if (open.length) stack.push(...open);
      else {
        stack.pop();
        if (!done.has(node)) order.push(node);
        done.add(node);
      }
    }
  }
  return order;
}
