/** A training step as a plain session: parameters and state in, parameters and state out. Any ONNX Runtime runs it. */
import type { Artifacts } from "../../artifacts/manifest.js";
import type { Tensors } from "../../tensor.js";
import type { TrainingSession } from "../index.js";
import type { Api, Pointer } from "./api.js";
import { sessionOptions, type Settings } from "./session.js";
import { copyOf, needed, overwrite, PingPong, Readings, StateSet, stepInputs } from "./stateful.js";
import { ortTensor } from "./value.js";

export async function openPortable(api: Api, artifacts: Artifacts, settings: Settings): Promise<TrainingSession> {
  const { manifest, stepModel, initial } = artifacts;
  if (!stepModel) throw new Error("These artifacts hold no step_model.onnx; build them for the portable engine.");
  const options = sessionOptions(api, settings);
  const out: [Pointer | null] = [null];
  try {
    await api.call(api.ort.CreateSessionFromArray, api.env, stepModel, stepModel.byteLength, options, out);
  } finally {
    api.ort.ReleaseSessionOptions(options);
  }
  const session = out[0]!;
  const parameters = manifest.parameters.map((p) => new PingPong(api, p.name, needed(initial, p.name, p.shape)));
  const trainable = parameters.filter((_, i) => manifest.parameters[i]!.trainable);
  const state = new StateSet(api, manifest, initial);
  const readings = new Readings(api, manifest);
  const sums = manifest.accumulation?.sums ?? [];
  const inputNames = [
    ...manifest.inputs.map((v) => v.name),
    ...manifest.scalars,
    ...manifest.parameters.map((p) => p.name),
    ...manifest.state.map((s) => s.name),
    ...sums.map((s) => s.name),
  ];
  const outputNames = [
    manifest.loss,
    ...manifest.metrics,
    manifest.applied,
    ...[...manifest.state, ...sums].map((s) => s.output),
    ...trainable.map((p) => `${p.name}.next`),
  ];
  let open = true;
  let busy = false;
  const close = (): void => {
    api.ort.ReleaseSession(session);
    for (const p of parameters) p.release();
    state.release();
    readings.release();
  };

  return {
    async step(inputs, scalars) {
      if (!open || busy) throw new Error(open ? "A step is in flight already." : "This training session is released.");
      const given = stepInputs(manifest, inputs, scalars).map((v) => ortTensor(api, v));
      const feeds = [...given, ...parameters.map((p) => p.kept), ...state.inputs()].map((v) => v.pointer);
      const fetches = [...readings.values, ...state.outputs(), ...trainable.map((p) => p.output(0))].map(
        (v) => v.pointer,
      );
      busy = true;
      try {
        await api.call(
          api.ort.Run,
          session,
          null,
          inputNames,
          feeds,
          feeds.length,
          outputNames,
          outputNames.length,
          fetches,
        );
        if (!state.complete()) return {};
        const applied = readings.applied();
        if (applied) for (const p of trainable) p.advance();
        state.advance(applied);
        return { applied };
      } finally {
        for (const v of given) v.release();
        busy = false;
        if (!open) close();
      }
    },
    metrics: readings.metrics,
    tensors: (): Tensors => ({
      ...Object.fromEntries(parameters.map((p) => [p.name, copyOf(p.kept.tensor)])),
      ...state.tensors(),
    }),
    load(tensors) {
      const rest = state.load(tensors);
      for (const p of parameters) {
        if (!(p.name in rest)) continue;
        overwrite(p.kept.tensor, needed(rest, p.name, p.kept.tensor.shape));
        delete rest[p.name];
      }
      const unknown = Object.keys(rest);
      if (unknown.length)
        throw new Error(
          `The step has no tensor "${unknown[0]}"${unknown.length > 1 ? ` (nor ${unknown.length - 1} others)` : ""}.`,
        );
    },
    release() {
      if (!open) return;
      open = false;
      if (!busy) close();
    },
  };
}
