/** Graph ↔ ModelProto: the only importer of onnx-proto. Writing walks back from the outputs, so what nobody asked for is never written. */
import onnxProto from "onnx-proto";
import Long from "long";
import { bytesOf, dtypeOf, dtypes, fromBytes, sizeOf, type Tensor, type Tensors, type TypedArray } from "../tensor.js";
import { nodesOf, type Attribute, type Node, type Type, type Value } from "./graph.js";

const { onnx } = onnxProto;

export interface GraphModel {
  inputs: readonly Value[];
  outputs: Readonly<Record<string, Value>>;
  /** Graph inputs that become initializers, by name: an encoder's weights. */
  initializers?: Tensors;
  /** metadata_props */
  metadata?: Record<string, string>;
  name?: string;
}

export const irVersion = 8;
export const opset = 17;

/** The bytes of an ONNX model: IR 8, opset 17 (or what its newest op needs), com.microsoft 1 where it is used. */
export function toModel({
  inputs,
  outputs,
  initializers = {},
  metadata = {},
  name = "diptych",
}: GraphModel): Uint8Array {
  const nodes = nodesOf(Object.values(outputs));
  const declared = new Set(inputs.map((v) => v.name!));
  const names = namer(nodes, outputs, declared, initializers);
  const tail = Object.entries(outputs).filter(([label, v]) => names.of(v) !== label);
  const used = nodes.flatMap((n) => n.inputs);
  const taken = new Set(used);
  const graph = {
    name,
    node: [
      ...nodes.map((n) => nodeProto(n, names, taken, outputs)),
      ...tail.map(([label, v]) => ({
        opType: "Identity",
        input: [names.of(v)],
        output: [label],
        name: `${label}/output`,
      })),
    ],
    input: inputs.map((v) => valueInfo(v.name!, v)),
    output: Object.entries(outputs).map(([label, v]) => valueInfo(label, named(label, v))),
    initializer: [
      ...names.constants.map(([label, t]) => tensorProto(label, t)),
      ...Object.entries(initializers).map(([label, t]) => tensorProto(label, t)),
    ],
    valueInfo: nodes
      .filter((n) => n.op.type.endsWith("PoolGrad"))
      .map((n) => valueInfo(names.of(n.outputs[0]!), n.outputs[0]!)),
  };
  const microsoft = nodes.some((n) => n.op.domain === "com.microsoft");
  const version = Math.max(opset, ...nodes.map((n) => n.op.since ?? 0));
  const model = {
    irVersion,
    producerName: "diptych",
    opsetImport: [{ domain: "", version }, ...(microsoft ? [{ domain: "com.microsoft", version: 1 }] : [])],
    graph,
    metadataProps: Object.entries(metadata).map(([key, value]) => ({ key, value })),
  };
  return onnx.ModelProto.encode(onnx.ModelProto.fromObject(model)).finish();
}

/** Dims that are formulas of symbols get plain names of their own: map_2. */
const named = (label: string, { dtype, shape }: Type): Type => ({
  dtype,
  shape: shape.map((d, i) => (typeof d === "number" || /^\w+$/.test(d) ? d : `${label}_${i}`)),
});

interface Names {
  of(v: Value): string;
  constants: [string, Tensor][];
}

/** Unique names: inputs and outputs their own, the others scope/Op_n; equal constants share one initializer. */
function namer(
  nodes: readonly Node[],
  outputs: Readonly<Record<string, Value>>,
  inputs: Set<string>,
  initializers: Tensors,
): Names {
  const given = new Map<Value, string>();
  for (const [label, v] of Object.entries(outputs)) if (v.node && !given.has(v)) given.set(v, label);
  const counters = new Map<string, number>();
  const fresh = (base: string): string => {
    const n = counters.get(base) ?? 0;
    counters.set(base, n + 1);
    return n ? `${base}_${n}` : base;
  };
  for (const n of nodes) {
    const path = n.origin?.path ? `${n.origin.path}/` : "/";
    const base = fresh(path + n.op.type);
    n.outputs.forEach((y, i) => given.has(y) || given.set(y, i ? `${base}:${i}` : base));
  }
  const constants = new Map<string, [string, Tensor]>();
  const constantName = (t: Tensor): string => {
    const key = constantKey(t);
    const known = constants.get(key);
    if (known) return known[0];
    const label = `constant/${constants.size}`;
    constants.set(key, [label, t]);
    return label;
  };
  for (const n of nodes) for (const x of n.inputs) if (x?.constant) given.set(x, constantName(x.constant));
  for (const v of Object.values(outputs)) if (v.constant) given.set(v, constantName(v.constant));
  return {
    constants: [...constants.values()],
    of(v) {
      const known = given.get(v);
      if (known !== undefined) return known;
      if (v.name === undefined) throw new Error("A value of another graph was used as an input of this one.");
      if (!inputs.has(v.name) && !(v.name in initializers))
        throw new Error(`The graph reads "${v.name}", which is neither among its inputs nor an initializer.`);
      return v.name;
    },
  };
}

let largeConstants = 0;
const constantKey = (t: Tensor): string =>
  t.data.length > 4096 ? `large ${largeConstants++}` : `${t.dtype}[${t.shape.join()}]${t.data.join()}`;

/** Outputs that nobody reads are written as "". */
function nodeProto(n: Node, names: Names, taken: Set<Value | null>, outputs: Readonly<Record<string, Value>>) {
  const results = new Set(Object.values(outputs));
  const whole = n.op.writesAll || n.outputs.length === 1;
  const output = n.outputs.map((y) => (whole || taken.has(y) || results.has(y) ? names.of(y) : ""));
  while (output.at(-1) === "") output.pop();
  return {
    name: names.of(n.outputs[0]!) + "/node",
    opType: n.op.type,
    domain: n.op.domain,
    input: n.inputs.slice(0, n.op.reads).map((x) => (x ? names.of(x) : "")),
    output,
    attribute: Object.entries(n.attributes).flatMap(([k, v]) => (v === undefined ? [] : [attributeProto(k, v)])),
  };
}

const { FLOAT, INT, STRING, INTS, TENSOR } = onnx.AttributeProto.AttributeType;
function attributeProto(name: string, v: Attribute) {
  if (typeof v === "number") return { name, type: INT, i: Long.fromNumber(v) };
  if (typeof v === "string") return { name, type: STRING, s: Buffer.from(v) };
  if (Array.isArray(v)) return { name, type: INTS, ints: (v as number[]).map((i) => Long.fromNumber(i)) };
  if ("float" in v) return { name, type: FLOAT, f: v.float };
  return { name, type: TENSOR, t: tensorProto(name, v as Tensor) };
}

const valueInfo = (name: string, { dtype, shape }: Type) => ({
  name,
  type: {
    tensorType: {
      elemType: dtypes[dtype].onnx,
      shape: { dim: shape.map((d) => (typeof d === "number" ? { dimValue: Long.fromNumber(d) } : { dimParam: d })) },
    },
  },
});

const tensorProto = (name: string, t: Tensor) => ({
  name,
  dataType: dtypes[t.dtype].onnx,
  dims: t.shape.map((d) => Long.fromNumber(d)),
  rawData: bytesOf(t),
});

/**
 * optimizer_model.onnx: SGDOptimizerV2 at the constant rate 1, since the update arrives complete. Its `learning_rate` input is
 * required by OrtTrainingApi and unused, so the 0.001 that every load resets it to never matters.
 */
export function optimizerModel(): Uint8Array {
  const tensorType = (elemType: number, dim: object[]) => ({ tensorType: { elemType, shape: { dim } } });
  const one = [{ dimValue: Long.fromNumber(1) }];
  const sequence = (name: string) => ({
    name,
    type: { sequenceType: { elemType: { tensorType: { elemType: dtypes.float32.onnx } } } },
  });
  return onnx.ModelProto.encode(
    onnx.ModelProto.fromObject({
      irVersion,
      producerName: "diptych",
      opsetImport: [
        { domain: "", version: opset },
        { domain: "com.microsoft", version: 1 },
      ],
      graph: {
        name: "optimizer",
        node: [
          {
            name: "sgd",
            opType: "SGDOptimizerV2",
            domain: "com.microsoft",
            input: ["one", "params", "gradients"],
            output: ["update_completed"],
          },
        ],
        input: [
          { name: "learning_rate", type: tensorType(dtypes.float32.onnx, one) },
          { name: "step", type: tensorType(dtypes.int64.onnx, one) },
          ...["params", "gradients", "first_order_moments"].map(sequence),
        ],
        output: [{ name: "update_completed", type: tensorType(dtypes.bool.onnx, one) }],
        initializer: [tensorProto("one", { dtype: "float32", shape: [1], data: Float32Array.of(1) })],
      },
    }),
  ).finish();
}

/** What a model file says of itself. */
export interface ModelInfo {
  inputs: { name: string; dtype: number; shape: (number | string)[] }[];
  outputs: { name: string; dtype: number; shape: (number | string)[] }[];
  metadata: Record<string, string>;
  opsets: Record<string, number>;
  ops: string[];
}

const decode = (bytes: Uint8Array) => {
  try {
    return onnx.ModelProto.decode(bytes);
  } catch (error) {
    throw new Error(`Not an ONNX model (${bytes.length} bytes): ${(error as Error).message}.`, { cause: error });
  }
};

/** Inputs, outputs, metadata and ops of a model. */
export function readModel(bytes: Uint8Array): ModelInfo {
  const { graph, metadataProps, opsetImport } = decode(bytes);
  if (!graph) throw new Error(`Not an ONNX model (${bytes.length} bytes): it has no graph.`);
  const initializers = new Set(graph.initializer?.map((t) => t.name));
  const infos = (list: typeof graph.input) =>
    (list ?? []).map((v) => ({
      name: v.name!,
      dtype: v.type?.tensorType?.elemType ?? 0,
      shape: (v.type?.tensorType?.shape?.dim ?? []).map((d) => d.dimParam || Number(d.dimValue)),
    }));
  return {
    inputs: infos(graph.input).filter((v) => !initializers.has(v.name)),
    outputs: infos(graph.output),
    metadata: Object.fromEntries((metadataProps ?? []).map((p) => [p.key!, p.value!])),
    opsets: Object.fromEntries((opsetImport ?? []).map((o) => [o.domain ?? "", Number(o.version)])),
    ops: [...new Set((graph.node ?? []).map((n) => (n.domain ? `${n.domain}.` : "") + n.opType))].sort(),
  };
}

/** An attribute as it is read; graphs inside nodes (If, Loop) are only named. */
export type ReadAttribute = number | string | readonly number[] | Tensor | { readonly graph: string };

/** A node by the names of its values; "" where an optional one is left out. */
export interface ReadNode {
  readonly name: string;
  readonly type: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, ReadAttribute | undefined>>;
}

/** A model as it stands in its file, nodes in order. */
export interface ReadGraph {
  readonly inputs: ModelInfo["inputs"];
  readonly outputs: readonly string[];
  readonly initializers: Tensors;
  readonly nodes: readonly ReadNode[];
}

/** The graph of a model, for import. */
export function readGraph(bytes: Uint8Array): ReadGraph {
  const { inputs, outputs } = readModel(bytes);
  const { graph } = decode(bytes);
  return {
    inputs,
    outputs: outputs.map((o) => o.name),
    initializers: readInitializers(bytes),
    nodes: (graph!.node ?? []).map((n) => ({
      name: n.name || n.output![0]!,
      type: n.opType!,
      domain: n.domain ?? "",
      inputs: n.input ?? [],
      outputs: n.output ?? [],
      attributes: Object.fromEntries((n.attribute ?? []).map((a) => [a.name!, readAttribute(a as never)])),
    })),
  };
}

function readAttribute(
  a: Record<"f" | "i", number> & { type: number; s: Uint8Array; t: never; floats: number[]; ints: unknown[] },
): ReadAttribute {
  const { FLOATS, GRAPH } = onnx.AttributeProto.AttributeType;
  switch (a.type) {
    case FLOAT:
      return a.f;
    case INT:
      return Number(a.i);
    case STRING:
      return new TextDecoder().decode(a.s);
    case TENSOR:
      return fromProto(a.t);
    case FLOATS:
      return a.floats;
    case INTS:
      return a.ints.map(Number);
    default:
      return { graph: a.type === GRAPH ? "a graph" : `type ${a.type}` };
  }
}

/** The initializers of a model, by name: the weights of an encoder. */
export function readInitializers(bytes: Uint8Array): Tensors {
  return Object.fromEntries((decode(bytes).graph?.initializer ?? []).map((t) => [t.name!, fromProto(t as never)]));
}

function fromProto(
  t: Record<string, never> & { dataType: number; dims: unknown[]; rawData: Uint8Array; floatData: number[] },
): Tensor {
  const dtype = dtypeOf(t.dataType);
  const shape = t.dims.map(Number);
  if (((t.externalData as { length: number } | undefined)?.length ?? 0) > 0)
    throw new Error(`"${String(t.name)}" lies in a file beside the model; save it as one file.`);
  if (t.rawData?.length || sizeOf(shape) === 0) return fromBytes(dtype, shape, t.rawData ?? new Uint8Array());
  const typed = [t.floatData, t.int32Data, t.int64Data, t.doubleData].find(
    (d) => (d as ArrayLike<number>)?.length,
  ) as ArrayLike<number>;
  const values = Array.from(typed, (v) => (dtype === "int64" ? BigInt(String(v)) : Number(v)));
  const array = dtypes[dtype].array as unknown as { from(v: unknown[]): TypedArray };
  return fromBytes(dtype, shape, new Uint8Array(array.from(values).buffer));
}
