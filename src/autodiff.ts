/** Reverse-mode differentiation of graphs into graphs. */
import { constant, type Node, type Value } from "./onnx/graph.js";
import { Add, Expand } from "./ops/index.js";

/**
 * The gradients of a scalar `loss` with respect to each value of `wrt`, as values of the same graph. A value that the loss does
 * not depend on gets zeros. Each node's rule follows the dialect that the node was built in. An op without a rule throws, naming the place.
 * @example const [dx] = gradients(ReduceSum(Mul(x, x)), [x]); // 2x
 */
export function gradients(loss: Value, wrt: readonly Value[]): Value[] {
  if (loss.shape.length) throw new Error(`Expected a scalar loss but received shape [${loss.shape.join(",")}].`);
  const cotangents = new Map<Value, Value>([[loss, constant([], 1, loss.dtype)]]);
  const active = pathsTo(wrt, loss);
  for (const node of active.reverse()) {
    const g = node.outputs.map((y) => cotangents.get(y));
    if (g.every((v) => v === undefined)) continue;
    for (const [x, dx] of pulledBack(node, g)) accumulate(cotangents, x, dx);
  }
  return wrt.map((x) => cotangents.get(x) ?? Expand(constant([], 0, x.dtype), x.shape as number[]));
}

const accumulate = (cotangents: Map<Value, Value>, x: Value, dx: Value): void => {
  const known = cotangents.get(x);
  cotangents.set(x, known ? Add(known, dx) : dx);
};

/** Cotangents of the inputs of one node, by its rule. */
function pulledBack({ op, inputs, outputs, attributes, origin }: Node, g: (Value | undefined)[]): [Value, Value][] {
  if (op.vjp === "zero") return [];
  const where = origin?.path || "graph";
  if (op.vjp === "none")
    throw new Error(
      `No gradient for ${op.type} at ${where}. Give it a vjp in src/ops/, or cut the path with stopGradient(x).`,
    );
  const aside = op.differentiable === "all" ? -1 : g.findIndex((v, i) => i > 0 && v);
  if (aside > 0)
    throw new Error(`No gradient for output ${aside} of ${op.type} at ${where}; only its first output has one.`);
  const hasKernels = !op.fusedOn || op.fusedOn.includes(origin?.device ?? "cpu");
  const rule = (origin?.dialect === "training" && hasKernels && op.fused) || op.vjp;
  const given = inputs.map((x) => x ?? undefined) as Value[];
  return rule(g as Value[], given, outputs, attributes).flatMap((dx, i) => {
    const x = inputs[i];
    if (!dx || !x) return [];
    if (dx.shape.length !== x.shape.length || dx.shape.some((d, k) => d !== x.shape[k]))
      throw new Error(
        `The vjp of ${op.type} at ${where} gave [${dx.shape.join(",")}] for an input of shape [${x.shape.join(",")}].`,
      );
    return [[x, dx] as [Value, Value]];
  });
}

/** The nodes on a path from `wrt` to the loss, in topological order. */
function pathsTo(wrt: readonly Value[], loss: Value): Node[] {
  const leaves = new Set(wrt);
  const order: Node[] = [];
  const depends = new Map<Node, boolean>();
  const visit = (root: Node): void => {
    const stack: Node[] = [root];
    while (stack.length) {
      const node = stack.at(-1)!;
      if (depends.has(node)) {
        stack.pop();
        continue;
      }
      const open = node.inputs.flatMap((x) => (x?.node && !leaves.has(x) && !depends.has(x.node) ? [x.node] : []));
      if (open.length) {
        stack.push(...open);
        continue;
      }
      stack.pop();
      const reaches = node.inputs.some((x) => x && (leaves.has(x) || (x.node && depends.get(x.node))));
      depends.set(node, reaches && node.op.vjp !== "zero");
      if (reaches && node.op.vjp !== "zero") order.push(node);
    }
  };
  if (loss.node) visit(loss.node);
  return order;
}
