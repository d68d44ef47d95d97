/** The methods: one file each, one line here. */
import type { Value } from "../../src/onnx/graph.js";
import type { Random } from "../../src/random.js";
import type { Schedule } from "../../src/schedules.js";
import type { DType, Tensors } from "../../src/tensor.js";
import type { ViewSpec } from "../../src/views.js";
import type { Features } from "../backbones/index.js";
import type { Scope } from "../scope.js";
import { densecl } from "./densecl.js";
import { mocov2 } from "./mocov2.js";
import { simclr } from "./simclr.js";

/** What the loss compares, by name. */
export type Embeddings = Record<string, Value>;
/** A backbone with its options bound. */
export type Network = (s: Scope, image: Value) => Features;
/** A method's own random input. */
export interface DrawSpec {
  name: string;
  dtype: DType;
  shape: readonly number[];
}

export interface Method<Options> {
  summary: string;
  paper: string;
  defaults: Options;
  views(options: Options, size: number): ViewSpec[];
  /** Scheduled scalars beside the learning rate, by name. */
  scalars?(options: Options): Record<string, Schedule>;
  /** Inputs beside the views, and their values at a step. */
  draws?(options: Options, batchSize: number): DrawSpec[];
  draw?(random: Random, options: Options, batchSize: number): Tensors;
  /** From views (by ViewSpec name) and draws to what the loss compares. */
  embed(s: Scope, network: Network, inputs: Record<string, Value>, options: Options): Embeddings;
  loss(s: Scope, own: Embeddings, all: Embeddings, options: Options): { loss: Value; metrics: Record<string, Value> };
  /** The scope that is exported. */
  encoder: string;
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- options differ from entry to entry
export const methods = { densecl, mocov2, simclr } satisfies Record<string, Method<any>>;
export type MethodName = keyof typeof methods;
