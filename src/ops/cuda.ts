/** Which nodes of a graph the CUDA provider has no kernel for: they run on the CPU, and their inputs and outputs cross over each step. */
import { nodesOf, type Node, type Value } from "../onnx/graph.js";
import type { DType } from "../tensor.js";

const floats: readonly DType[] = ["float32", "float64"];
const ordered: readonly DType[] = [...floats, "int32", "int64"];
const bytes: readonly DType[] = ["uint8"];

/**
 * Element types with a CUDA kernel at opset 17 (com.microsoft: 1), by op: from the kernels' symbols in libonnxruntime_providers_cuda of
 * 1.28.0-1.5.14. The element type is that of the first input, or of the one named.
 */
const table: readonly { ops: string; dtypes: readonly DType[] | "all"; input?: number }[] = [
  {
    ops: "Clip Concat CumSum Expand Gather GatherElements GatherGrad Identity IsNaN LogSoftmaxGrad_13 Max Min Mod NonMaxSuppression Pow Reshape ScatterElements ScatterND Shape Slice SoftmaxGrad_13 Split Squeeze Tile TopK Transpose Unsqueeze",
    dtypes: "all",
  },
  {
    ops: "ArgMax AveragePool BatchNormalization BatchNormalizationGrad BatchNormInternal Ceil Conv ConvGrad ConvTranspose Cos Elu Erf Exp Floor Gelu GeluGrad Gemm GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish InstanceNormalization LayerNormalization LayerNormalizationGrad LeakyRelu Log LogSoftmax MatMul PRelu Reciprocal ReduceLogSumExp ReduceSumSquare Relu ReluGrad RoiAlign Round Sigmoid SigmoidGrad Sin Softmax SoftmaxCrossEntropyLoss SoftmaxCrossEntropyLossGrad Softplus Sqrt Tanh TanhGrad",
    dtypes: floats,
  },
  { ops: "Abs Add Div Mul ReduceMax ReduceMin Sign Sub", dtypes: [...ordered, ...bytes] },
  { ops: "Greater GreaterOrEqual Less LessOrEqual Neg ReduceSum", dtypes: ordered },
  { ops: "ReduceL2 ReduceMean", dtypes: [...floats, "int32"] },
  { ops: "And Not Or", dtypes: ["bool"] },
  { ops: "Cast", dtypes: [...ordered, ...bytes, "bool"] },
  { ops: "Equal", dtypes: [...ordered, "bool"] },
  { ops: "NonZero", dtypes: ["float32", "int32", "int64", "bool", ...bytes] },
  { ops: "Where", dtypes: ["float32", "int32", "int64", ...bytes], input: 1 },
  { ops: "OneHot", dtypes: ["float32", "int64"], input: 2 },
  { ops: "GatherND", dtypes: ["int64"], input: 1 },
  { ops: "MaxPool", dtypes: [...floats, ...bytes] },
  { ops: "Pad", dtypes: [...floats, "bool"] },
  { ops: "Resize", dtypes: [...floats, "int32", ...bytes] },
  { ops: "GridSample InPlaceAccumulatorV2", dtypes: ["float32"] },
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
