/** Which nodes of a graph the CUDA provider has no kernel for: they run on the CPU, and their inputs and outputs cross over each step. */
import { nodesOf, type Node, type Value } from "../onnx/graph.js";
import { dtypes, type DType } from "../tensor.js";

const floats: readonly DType[] = ["float32", "float64", "float16"];
const allFloats: readonly DType[] = [...floats, "bfloat16"];
const integers: readonly DType[] = ["int32", "int64"];
const bytes: readonly DType[] = ["uint8"];
const butBfloat16 = (Object.keys(dtypes) as DType[]).filter((d) => d !== "bfloat16");

/**
 * Element types with a CUDA kernel at opset 17 (com.microsoft: 1), by op: from the kernels' symbols in libonnxruntime_providers_cuda of
 * 1.28.0-1.5.14. The element type is that of the first input, or of the one named. Where a symbol names no type, an op that moves values
 * is taken to move all, one that computes to compute all but bfloat16.
 */
const table: readonly { ops: string; dtypes: readonly DType[] | "all"; input?: number }[] = [
  {
    ops: "Concat Expand Gather GatherElements GatherGrad Identity LogSoftmaxGrad_13 Reshape Shape Slice SoftmaxGrad_13 Split Squeeze Transpose Unsqueeze",
    dtypes: "all",
  },
  {
    ops: "Clip CumSum IsNaN Max Min Mod NonMaxSuppression Pow ScatterElements ScatterND Tile TopK",
    dtypes: butBfloat16,
  },
  {
    ops: "Conv Elu Erf Exp Gelu Gemm LayerNormalization LayerNormalizationGrad LeakyRelu LogSoftmax MatMul PRelu ReduceLogSumExp ReduceSumSquare Relu Sigmoid Softmax SoftmaxCrossEntropyLoss SoftmaxCrossEntropyLossGrad Sqrt Tanh",
    dtypes: allFloats,
  },
  {
    ops: "ArgMax AveragePool BatchNormalization BatchNormalizationGrad BatchNormInternal Ceil ConvGrad ConvTranspose Cos Floor GeluGrad GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish InstanceNormalization Log Reciprocal ReluGrad RoiAlign Round SigmoidGrad Sin Softplus TanhGrad",
    dtypes: floats,
  },
  { ops: "Abs Add Div Mul Sign Sub", dtypes: [...allFloats, ...integers, ...bytes] },
  { ops: "ReduceMax ReduceMin", dtypes: [...floats, ...integers, ...bytes] },
  { ops: "Greater GreaterOrEqual Less LessOrEqual Neg ReduceSum", dtypes: [...allFloats, ...integers] },
  { ops: "ReduceL2 ReduceMean", dtypes: [...allFloats, "int32"] },
  { ops: "And Not Or", dtypes: ["bool"] },
  { ops: "Cast", dtypes: [...allFloats, ...integers, ...bytes, "bool"] },
  { ops: "Equal", dtypes: [...allFloats, ...integers, "bool"] },
  { ops: "NonZero", dtypes: ["float32", "float16", ...integers, "bool", ...bytes] },
  { ops: "Where", dtypes: ["float32", "float16", "bfloat16", ...integers, ...bytes], input: 1 },
  { ops: "OneHot", dtypes: ["float32", "float16", "int64"], input: 2 },
  { ops: "GatherND", dtypes: ["int64"], input: 1 },
  { ops: "MaxPool", dtypes: [...floats, ...bytes] },
  { ops: "Pad", dtypes: [...floats, "bool"] },
  { ops: "Resize", dtypes: [...floats, "int32", ...bytes] },
  { ops: "InPlaceAccumulatorV2", dtypes: ["float32", "float16"], input: 1 },
  { ops: "GridSample", dtypes: ["float32"] },
];
const kernels = new Map(
  table.flatMap(({ ops, dtypes, input = 0 }) => ops.split(" ").map((type) => [type, { dtypes, input }] as const)),
);

/** The nodes that the values depend on and the CUDA provider cannot run, in the order in which they run. */
export const withoutCudaKernel = (values: readonly Value[]): Node[] => nodesOf(values).filter((n) => !hasKernel(n));

function hasKernel({ op, inputs, attributes }: Node): boolean {
  const kernel = kernels.get(op.type);
  if (!kernel) return false;
  const dtype = inputs[kernel.input]?.dtype;
  if (kernel.dtypes !== "all" && dtype && !kernel.dtypes.includes(dtype)) return false;
  return op.type !== "ConvTranspose" || symmetric(attributes.pads as readonly number[]);
}

/** The provider hands a ConvTranspose that pads the two sides of an axis differently to the CPU. */
const symmetric = ([top, left, bottom, right]: readonly number[]): boolean => top === bottom && left === right;
