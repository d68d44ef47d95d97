/** The methods: one file each, one line here. */
import type { Choices } from "../../src/names.js";
import type { Value } from "../../src/onnx/graph.js";
import type { Random } from "../../src/random.js";
import type { Schedule } from "../../src/schedules.js";
import type { DType, Tensors } from "../../src/tensor.js";
import type { ViewSpec } from "../../src/views.js";
import type { Draw } from "../augment.js";
import type { Features } from "../backbones/index.js";
import type { Scope } from "../scope.js";
import { aps } from "./aps.js";
import { bagssl } from "./bagssl.js";
import { byol } from "./byol.js";
import { cacr } from "./cacr.js";
import { densecl } from "./densecl.js";
import { isd } from "./isd.js";
import { mocov2 } from "./mocov2.js";
import { mocov3 } from "./mocov3.js";
import { simclr } from "./simclr.js";
import { tcr } from "./tcr.js";
import { vicreg } from "./vicreg.js";

/** What the loss compares, by name. */
export type Embeddings = Record<string, Value>;
/** A backbone with its options bound; `tokens` [B,n] int64 runs only those patches. */
export interface Network {
  (s: Scope, image: Value, tokens?: Value): Features;
  /** Patches a side of an image of so many pixels; absent where the network cannot run a choice of them. */
  grid?: (size: number) => number;
}
/** A method's own random input. */
export interface DrawSpec {
  name: string;
  dtype: DType;
  shape: readonly number[];
}

/** Where a draw stands within its batch. */
export interface Drawn {
  /** Step on this batch: 0 … stepsPerBatch − 1. */
  inner: number;
  /** What each view shows of its image, by ViewSpec name: [copy][image]. */
  views: Record<string, readonly (readonly Pick<Draw, "crop" | "flip">[])[]>;
}

export interface Method<Options> {
  summary: string;
  paper: string;
  defaults: Options;
  /** The words that an option may be, where it is one of a few. */
  choices?: Choices<Options>;
  views(options: Options, size: number): ViewSpec[];
  /** Scheduled scalars beside the learning rate, by name. */
  scalars?(options: Options): Record<string, Schedule>;
  /** Steps taken on one batch, each with its own draw; default 1. */
  stepsPerBatch?(options: Options): number;
  /** Inputs beside the views, and their values at a step; `random` is one stream a batch, the same at each of its steps. */
  draws?(options: Options, batchSize: number): DrawSpec[];
  draw?(random: Random, options: Options, batchSize: number, at: Drawn): Tensors;
  /** From views (by ViewSpec name) and draws to what the loss compares. */
  embed(s: Scope, network: Network, inputs: Record<string, Value>, options: Options): Embeddings;
  loss(s: Scope, own: Embeddings, all: Embeddings, options: Options): { loss: Value; metrics: Record<string, Value> };
  /** The scope that is exported. */
  encoder: string;
  /** Where the authors' code departs from their paper: what `faithful: true` sets. */
  released?(options: Options): Partial<Options>;
}

/* eslint-disable @typescript-eslint/no-explicit-any -- options differ from entry to entry */
export const methods = {
  aps,
  bagssl,
  byol,
  cacr,
  densecl,
  isd,
  mocov2,
  mocov3,
  simclr,
  tcr,
  vicreg,
} satisfies Record<string, Method<any>>;
export type MethodName = keyof typeof methods;

/** Options as the authors' code has them, where `faithful` asks for it. */
export const faithfully = <O extends object>(method: Method<O>, options: O & { faithful?: boolean }): O =>
  options.faithful ? { ...options, ...method.released?.(options) } : options;
