/** Graphs rebuilt node by node: in float64, or with the sides of their ReLUs given. To tell an error of a rule from float32's rounding. */
import { convAsProduct } from "../graphs/layers.js";
import { constantOf, input, type Node, type Value } from "../src/onnx/graph.js";
import { Mul, type Window } from "../src/ops/index.js";
import { apply } from "../src/ops/op.js";
import { tensor, type Tensor } from "../src/tensor.js";

/** What becomes of leaves (inputs, constants) and of nodes; undefined: the node is copied. */
interface Changes {
  leaf(v: Value): Value;
  node(n: Node, inputs: readonly (Value | null)[]): Value | undefined;
}

/** Values as their changed selves, which share their nodes as the originals do. */
function rewriter({ leaf, node }: Changes): (v: Value) => Value {
  const leaves = new Map<Value, Value>();
  const nodes = new Map<Node, readonly Value[]>();
  const once = <K, V>(known: Map<K, V>, key: K, make: (key: K) => V): V => {
    if (!known.has(key)) known.set(key, make(key));
    return known.get(key)!;
  };
  const rebuilt = (n: Node): readonly Value[] => {
    const inputs = n.inputs.map((x) => x && rewrite(x));
    const changed = node(n, inputs);
    return changed ? [changed] : apply(n.op, inputs, n.attributes);
  };
  const rewrite = (v: Value): Value => (v.node ? once(nodes, v.node, rebuilt)[v.index!]! : once(leaves, v, leaf));
  return rewrite;
}

export const wideTensor = (t: Tensor): Tensor =>
  t.dtype === "float32" ? tensor("float64", t.shape, Array.from(t.data, Number)) : t;

/** A graph of the portable dialect in float64; convolutions, which the runtime has in float32 only, become products. */
export const widener = (): ((v: Value) => Value) =>
  rewriter({
    leaf(v) {
      if (v.constant) return constantOf(wideTensor(v.constant));
      return v.dtype === "float32" ? input(v.name!, "float64", v.shape, v.origin) : v;
    },
    node: ({ op, attributes }, [x, w, b]) =>
      op.type === "Conv" ? convAsProduct(x!, w!, b ?? null, attributes as unknown as Window) : undefined,
  });

/** Max(x, 0) as x times a given 1 or 0, in the order of `nodesOf(…, "Relu")`. */
export function withSides(relus: readonly Node[], sides: readonly Tensor[]): (v: Value) => Value {
  const sideOf = new Map(relus.map((n, i) => [n, constantOf(sides[i]!)]));
  return rewriter({ leaf: (v) => v, node: (n, [x]) => sideOf.get(n) && Mul(x!, sideOf.get(n)!) });
}

/** The nodes of an op below some values, inputs first. */
export function nodesOf(values: readonly Value[], type: string): Node[] {
  const seen = new Set<Node>();
  const visit = ({ node }: Value): void => {
    if (!node || seen.has(node)) return;
    for (const x of node.inputs) if (x) visit(x);
    seen.add(node);
  };
  values.forEach(visit);
  return [...seen].filter((n) => n.op.type === type);
}
