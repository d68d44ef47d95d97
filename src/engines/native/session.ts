/** Plain sessions of a library. */
import type { Tensors } from "../../tensor.js";
import type { Session, SessionOptions } from "../index.js";
import { appendCuda, type CudaOptions } from "./cuda.js";
import { takeString, type Api, type Pointer } from "./api.js";
import { ortTensor, takeValue, type OrtTensor } from "./value.js";

const levels = { off: 0, basic: 1, extended: 2, all: 99 } as const;

/** What sessions of an engine are opened with. */
export interface Settings extends SessionOptions {
  threads: number;
  /** On a card; without it on the CPU. */
  cuda?: CudaOptions;
}

/** OrtSessionOptions; the caller releases them. */
export function sessionOptions(api: Api, { threads, spin = false, optimization = "all", cuda }: Settings): Pointer {
  const options = api.make(api.ort.CreateSessionOptions);
  api.check(api.ort.SetIntraOpNumThreads(options, threads));
  api.check(api.ort.SetInterOpNumThreads(options, 1));
  // a pattern is one block for all that the first run asked for piece by piece: both stay, and a step takes twice its memory
  api.check(api.ort.DisableMemPattern(options));
  api.check(api.ort.SetSessionGraphOptimizationLevel(options, levels[optimization]));
  api.check(api.ort.AddSessionConfigEntry(options, "session.intra_op.allow_spinning", spin ? "1" : "0"));
  const profile = process.env.DIPTYCH_PROFILE;
  if (profile) api.check(api.ort.EnableProfiling(options, profile));
  if (cuda) appendCuda(api, options, cuda);
  return options;
}

/** A session over model bytes or a model file. */
export async function openSession(api: Api, model: Uint8Array | string, settings: Settings): Promise<Session> {
  const options = sessionOptions(api, settings);
  const out: [Pointer | null] = [null];
  try {
    if (typeof model === "string") await api.call(api.ort.CreateSession, api.env, model, options, out);
    else await api.call(api.ort.CreateSessionFromArray, api.env, model, model.byteLength, options, out);
  } finally {
    api.ort.ReleaseSessionOptions(options);
  }
  return plainSession(api, out[0]!);
}

function names(api: Api, session: Pointer, which: "Input" | "Output"): string[] {
  const count: [number] = [0];
  api.check(api.ort[`SessionGet${which}Count`](session, count));
  return Array.from({ length: Number(count[0]) }, (_, i) =>
    takeString(api, api.make(api.ort[`SessionGet${which}Name`], session, i, api.allocator)),
  );
}

function plainSession(api: Api, pointer: Pointer): Session {
  const inputs = names(api, pointer, "Input");
  const outputs = names(api, pointer, "Output");
  let open = true;
  let pending = 0;

  const close = (): void => {
    if (process.env.DIPTYCH_PROFILE) takeString(api, api.make(api.ort.SessionEndProfiling, pointer, api.allocator));
    api.ort.ReleaseSession(pointer);
  };

  async function once(feeds: Tensors, fetches: readonly string[], into: Tensors): Promise<Tensors> {
    const given = inputs.map((name) => {
      const t = feeds[name];
      if (!t)
        throw new Error(`The model needs input "${name}"; it was fed ${Object.keys(feeds).join(", ") || "nothing"}.`);
      return ortTensor(api, t);
    });
    const targets: (OrtTensor | null)[] = fetches.map((name) => (into[name] ? ortTensor(api, into[name]) : null));
    const slots: (Pointer | null)[] = targets.map((t) => t?.pointer ?? null);
    try {
      await api.call(
        api.ort.Run,
        pointer,
        null,
        inputs,
        given.map((v) => v.pointer),
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
      for (const v of [...given, ...targets]) v?.release();
    }
  }

  return {
    inputs,
    outputs,
    async run(feeds, fetches = outputs, into = {}) {
      if (!open) throw new Error("This session is released.");
      const unknown = fetches.find((f) => !outputs.includes(f));
      if (unknown) throw new Error(`The model has no output "${unknown}"; it has ${outputs.join(", ")}.`);
      pending++;
      try {
        return await once(feeds, fetches, into);
      } finally {
        pending--;
        if (!open && pending === 0) close();
      }
    },
    release() {
      if (!open) return;
      open = false;
      if (pending === 0) close();
    },
  };
}
