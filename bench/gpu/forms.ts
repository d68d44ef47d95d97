/** The forms that a convolution of stride 1 and its gradients may take. Those of one kind give the same numbers. */
import type { Shape, Value } from "../../src/onnx/graph.js";
import * as ops from "../../src/ops/index.js";
import { Concat, Conv, Gemm, MatMul, Reshape, Slice, Transpose, turned } from "../../src/ops/index.js";
import { apply, op } from "../../src/ops/op.js";

/** x and dy in both layouts with the same numbers; w [O,C,k,k]. */
export type Operands = Record<"x" | "dy" | "xLast" | "dyLast" | "w", Value> & { kernel: 1 | 3; pads: number[] };
interface Form {
  /** Only for kernels of this side. */
  kernel?: 1 | 3;
  /** Has a kernel on a card alone. */
  cuda?: true;
  /** Its result has the channels last. */
  last?: true;
  of(o: Operands): Value;
}

const convGrad = ({ x, dy, w, kernel, pads }: Pick<Operands, "x" | "dy" | "w" | "kernel" | "pads">) =>
  apply(ops.convGrad, [dy, x, w], { kernel_shape: [kernel, kernel], pads });
const convOf = (x: Value, w: Value, { pads }: Operands): Value =>
  Conv(x, w, null, { pads: pads as [number, number, number, number] });
const nhwc = op("NhwcConv", {
  domain: "com.microsoft",
  infer: ([x, w]) => [{ dtype: x!.dtype, shape: [...x!.shape.slice(0, 3), w!.shape[0]!] }],
  vjp: "none",
});
/** y [N,H,W,O] of x [N,H,W,C]. The layout that it takes weights in is nowhere written: both are tried, and compared with Conv. */
const nhwcConv = (x: Value, w: Value, { kernel, pads }: Operands): Value =>
  apply(nhwc, [x, w], { kernel_shape: [kernel, kernel], pads })[0]!;
const ohwi = (w: Value): Value => Transpose(w, { perm: [0, 2, 3, 1] });
export const channelsFirst = (x: Value): Value => Transpose(x, { perm: [0, 3, 1, 2] });
/** w [O,C,1,1] → [O,C] */
const matrix = (w: Value): Value => Reshape(w, [0, -1]);
/** [N,H,W,C] → [N·H·W, C] */
const rows = (x: Value): Value => Reshape(x, [-1, x.shape[3] as number]);
/** [N,C,H,W] → [N, C, H·W] */
const planes = (x: Value): Value => Reshape(x, [0, 0, -1]);
const as = (v: Value, { shape }: { shape: Shape }): Value => Reshape(v, shape as number[]);

export const forms: Record<"y" | "dx" | "dw", Record<string, Form>> = {
  y: {
    Conv: { of: (o) => convOf(o.x, o.w, o) },
    "a GEMM an image": { kernel: 1, of: ({ x, w, dy }) => as(MatMul(matrix(w), planes(x)), dy) },
    "a GEMM, channels last": {
      kernel: 1,
      last: true,
      of: (o) => as(MatMul(rows(o.xLast), Transpose(matrix(o.w))), o.dyLast),
    },
    "NhwcConv, weights OIHW": { cuda: true, last: true, of: (o) => nhwcConv(o.xLast, o.w, o) },
    "NhwcConv, weights OHWI": { cuda: true, last: true, of: (o) => nhwcConv(o.xLast, ohwi(o.w), o) },
  },
  dx: {
    ConvGrad: { of: (o) => convGrad(o)[0]! },
    "Conv, turned weights": { of: (o) => convOf(o.dy, turned(o.w), o) },
    "a GEMM an image": { kernel: 1, of: ({ x, w, dy }) => as(MatMul(Transpose(matrix(w)), planes(dy)), x) },
    "a GEMM, channels last": { kernel: 1, last: true, of: (o) => as(MatMul(rows(o.dyLast), matrix(o.w)), o.xLast) },
    "NhwcConv, turned weights OIHW": { cuda: true, last: true, of: (o) => nhwcConv(o.dyLast, turned(o.w), o) },
    "NhwcConv, turned weights OHWI": { cuda: true, last: true, of: (o) => nhwcConv(o.dyLast, ohwi(turned(o.w)), o) },
  },
  dw: {
    ConvGrad: { of: (o) => convGrad(o)[1]! },
    "ConvGrad after transposes": {
      of: (o) => convGrad({ ...o, x: channelsFirst(o.xLast), dy: channelsFirst(o.dyLast) })[1]!,
    },
    "a GEMM an image, summed": {
      kernel: 1,
      of: ({ x, dy, w }) => {
        const each = MatMul(planes(dy), Transpose(planes(x), { perm: [0, 2, 1] })); // [N,O,C]
        return as(ops.ReduceSum(each, { axes: [0], keepdims: 0 }), w);
      },
    },
    "a GEMM, channels last": {
      kernel: 1,
      of: (o) => as(Gemm(rows(o.dyLast), rows(o.xLast), null, { transA: 1 }), o.w),
    },
    "nine GEMMs, channels last": { kernel: 3, of: nineGemms },
  },
};

/** dw = Σ dyᵀ·x, tap by tap over the padded image. */
function nineGemms({ xLast, dyLast, w }: Operands): Value {
  const padded = ops.Pad(xLast, [0, 1, 1, 0, 0, 1, 1, 0]);
  const [, h, width] = xLast.shape as number[];
  const taps = Array.from({ length: 9 }, (_, t) => {
    const starts = [Math.floor(t / 3), t % 3];
    const seen = Slice(padded, { starts, ends: [starts[0]! + h!, starts[1]! + width!], axes: [1, 2] });
    return Reshape(Gemm(rows(dyLast), rows(seen), null, { transA: 1 }), [...w.shape.slice(0, 2), 1] as number[]);
  });
  return as(Concat(taps, { axis: 2 }), w);
}
