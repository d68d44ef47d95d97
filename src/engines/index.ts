/** Engines run ONNX models. One interface, whatever library and device stand behind it. */
import type { Device } from "../onnx/graph.js";
import type { DType, Tensor, Tensors } from "../tensor.js";

export type EngineName = "training" | "portable";

export interface SessionOptions {
  /** Intra-op threads; default the engine's. */
  threads?: number;
  /**
   * Intra-op worker threads spin while idle, for a millisecond or so. Default: training sessions do (a step is hundreds of short kernels:
   * MoCo-v2's on 2 threads took 300 ms instead of 375), others do not, since decoding shares the cores.
   */
  spin?: boolean;
  /** On a card: products of 10 bits in place of 23. Default the engine's, which is off. */
  tf32?: boolean;
  /** Graph optimisation level. Default "all". */
  optimization?: "off" | "basic" | "extended" | "all";
}

/**
 * A tensor that lives where the engine computes: its sessions take it without its crossing over. On the CPU it is the tensor itself. Who
 * made it releases it, after the runs that it is fed to.
 */
export interface Resident {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** The tensor in the host's memory; on the CPU without a copy. */
  read(): Promise<Tensor>;
  release(): void;
}
export type Residents = Record<string, Resident>;
/** A tensor of the host as the resident of an engine that computes there. */
export const residing = (t: Tensor): Tensor & Resident => ({ ...t, read: () => Promise.resolve(t), release() {} });
export const releaseAll = (residents: Residents): void => Object.values(residents).forEach((r) => r.release());

/** What a session is fed: host tensors cross over at each run, residents are there. */
export type Feed = Tensor | Resident;
export type Feeds = Record<string, Feed>;

/** A plain model, loaded. Runs may overlap; `run` leaves the event loop free. */
export interface Session {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /**
   * Feeds are read in place and must not change until the promise settles. Outputs named in `into` are written there (their
   * shapes must be the model's), the others are fresh tensors.
   */
  run(feeds: Feeds, fetches?: readonly string[], into?: Tensors): Promise<Tensors>;
  /** The same with outputs that stay where they are computed. */
  keep(feeds: Feeds, fetches?: readonly string[]): Promise<Residents>;
  release(): void;
}

/** A training step, loaded with its parameters and state. */
export interface TrainingSession {
  /**
   * One batch. With the last batch of an update (each, unless the step accumulates) parameters are updated and state advances, and `applied`
   * says so; false: a gradient was not finite, and nothing has changed but a loss scale. Before the last batch it is absent.
   */
  step(inputs: Feeds, scalars: Record<string, number>): Promise<{ applied?: boolean }>;
  /** Loss and metrics of the last update. */
  metrics(): Record<string, number>;
  /** Copies of all parameters and all state, by name, as the last update left them. */
  tensors(): Tensors;
  /** Overwrites parameters and state by name; names that the step lacks are an error. */
  load(tensors: Tensors): void;
  release(): void;
}

export interface Engine {
  readonly name: EngineName;
  readonly device: Device;
  /** Its memory is not the host's: what is fed to it again and again is better uploaded once. */
  readonly apart: boolean;
  readonly threads: number;
  /** Version string of the library, e.g. "1.28.0". */
  readonly version: string;
  session(model: Uint8Array | string, options?: SessionOptions): Promise<Session>;
  /** Brings tensors to where the engine computes, all in one crossing, while it may be computing; what is there already stays. */
  upload(feeds: Feeds): Promise<Residents>;
  /** After its sessions and residents are released. */
  release(): void;
}

export type { Device, Tensor, Tensors };
