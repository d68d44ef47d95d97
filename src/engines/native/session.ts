/** Plain sessions of a library. */
import type { Tensors } from "../../tensor.js";
import type { Feeds, Residents, Session, SessionOptions } from "../index.js";
import { takeString, type Api, type Pointer } from "./api.js";
import { Binding } from "./binding.js";
import { appendCuda, type CudaOptions } from "./cuda.js";
import type { Memory } from "./memory.js";
import { ortTensor, takeValue, type OrtTensor, type Value } from "./value.js";

const levels = { off: 0, basic: 1, extended: 2, all: 99 } as const;

/** What sessions of an engine are opened with. */
export interface Settings extends SessionOptions {
  threads: number;
  /** On a card; without it on the CPU. */
  cuda?: CudaOptions;
  /** Runs are captured as CUDA graphs and replayed. */
  graphs?: boolean;
}

/** OrtSessionOptions; the caller releases them. */
export function sessionOptions(
  api: Api,
  { threads, spin = false, optimization = "all", cuda, graphs }: Settings,
): Pointer {
  const options = api.make(api.ort.CreateSessionOptions);
  api.check(api.ort.SetIntraOpNumThreads(options, threads));
  api.check(api.ort.SetInterOpNumThreads(options, 1));
  // a pattern is one block for all that the first run asked for piece by piece: both stay, and a step takes twice its memory
  api.check(api.ort.DisableMemPattern(options));
  api.check(api.ort.SetSessionGraphOptimizationLevel(options, levels[optimization]));
  api.check(api.ort.AddSessionConfigEntry(options, "session.intra_op.allow_spinning", spin ? "1" : "0"));
  const profile = process.env.DIPTYCH_PROFILE;
  if (profile) api.check(api.ort.EnableProfiling(options, profile));
  if (cuda) appendCuda(api, options, cuda, graphs);
  return options;
}

/** OrtSession over model bytes or a model file. */
export async function openModel(api: Api, model: Uint8Array | string, settings: Settings): Promise<Pointer> {
  const options = sessionOptions(api, settings);
  const out: [Pointer | null] = [null];
  try {
    if (typeof model === "string") await api.call(api.ort.CreateSession, api.env, model, options, out);
    else await api.call(api.ort.CreateSessionFromArray, api.env, model, model.byteLength, options, out);
  } finally {
    api.ort.ReleaseSessionOptions(options);
  }
  return out[0]!;
}

export function namesOf(api: Api, session: Pointer, which: "Input" | "Output"): string[] {
  const count: [number] = [0];
  api.check(api.ort[`SessionGet${which}Count`](session, count));
  return Array.from({ length: Number(count[0]) }, (_, i) =>
    takeString(api, api.make(api.ort[`SessionGet${which}Name`], session, i, api.allocator)),
  );
}

/** A plain session. */
export async function openSession(
  api: Api,
  memory: Memory,
  model: Uint8Array | string,
  settings: Settings,
): Promise<Session> {
  const pointer = await openModel(api, model, settings);
  const inputs = namesOf(api, pointer, "Input");
  const outputs = namesOf(api, pointer, "Output");
  let open = true;
  let pending = 0;

  const close = (): void => {
    if (process.env.DIPTYCH_PROFILE) takeString(api, api.make(api.ort.SessionEndProfiling, pointer, api.allocator));
    api.ort.ReleaseSession(pointer);
  };

  const given = (feeds: Feeds): Promise<Value[]> =>
    memory.given(
      inputs.map((name) => {
        const t = feeds[name];
        if (t) return t;
        throw new Error(`The model needs input "${name}"; it was fed ${Object.keys(feeds).join(", ") || "nothing"}.`);
      }),
    );

  /** Outputs into host tensors. */
  async function once(feeds: Feeds, fetches: readonly string[], into: Tensors): Promise<Tensors> {
    const fed = await given(feeds);
    const targets: (OrtTensor | null)[] = fetches.map((name) => (into[name] ? ortTensor(api, into[name]) : null));
    const slots: (Pointer | null)[] = targets.map((t) => t?.pointer ?? null);
    try {
      await api.call(
        api.ort.Run,
        pointer,
        null,
        inputs,
        fed.map((v) => v.pointer),
        inputs.length,
        fetches,
        fetches.length,
        slots,
      );
      return Object.fromEntries(
        fetches.map((name, i) => {
          const target = targets[i];
          if (!target) return [name, takeValue(api, slots[i]!)];
          if (target.tensor !== into[name]) into[name]!.data.set(target.tensor.data as never);
          return [name, into[name]!];
        }),
      );
    } finally {
      for (const v of [...fed, ...targets]) v?.release();
    }
  }

  /** Outputs into the device's memory. */
  async function bound(feeds: Feeds, fetches: readonly string[], info: Pointer): Promise<Residents> {
    const fed = await given(feeds);
    const binding = new Binding(api, pointer);
    try {
      inputs.forEach((name, i) => binding.input(name, fed[i]!));
      for (const name of fetches) binding.outputIn(name, info);
      await api.call(api.ort.RunWithBinding, pointer, null, binding.pointer);
      const made = binding.outputs();
      return Object.fromEntries(fetches.map((name, i) => [name, memory.adopt(made[i]!)]));
    } finally {
      binding.release();
      for (const v of fed) v.release();
    }
  }

  async function whileOpen<T>(fetches: readonly string[], run: () => Promise<T>): Promise<T> {
    if (!open) throw new Error("This session is released.");
    const unknown = fetches.find((f) => !outputs.includes(f));
    if (unknown) throw new Error(`The model has no output "${unknown}"; it has ${outputs.join(", ")}.`);
    pending++;
    try {
      return await run();
    } finally {
      pending--;
      if (!open && pending === 0) close();
    }
  }

  return {
    inputs,
    outputs,
    run: (feeds, fetches = outputs, into = {}) => whileOpen(fetches, () => once(feeds, fetches, into)),
    keep: (feeds, fetches = outputs) =>
      whileOpen(fetches, async () =>
        memory.info === undefined ? memory.upload(await once(feeds, fetches, {})) : bound(feeds, fetches, memory.info),
      ),
    release() {
      if (!open) return;
      open = false;
      if (pending === 0) close();
    },
  };
}
