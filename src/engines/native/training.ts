/** A training step on OrtTrainingApi: parameters live in its checkpoint state, everything else passes through as user inputs and outputs. */
import { divided } from "../../artifacts/index.js";
import type { Artifacts } from "../../artifacts/manifest.js";
import { writeCheckpoint } from "../../artifacts/odtc.js";
import type { Tensors } from "../../tensor.js";
import type { TrainingSession } from "../index.js";
import type { Api, Pointer } from "./api.js";
import { sessionOptions, type Settings } from "./session.js";
import { needed, Readings, StateSet, stepInputs } from "./stateful.js";
import { ortTensor, takeValue } from "./value.js";

export async function openTraining(api: Api, artifacts: Artifacts, settings: Settings): Promise<TrainingSession> {
  const t = api.training;
  if (!t) throw new Error(`${api.library} has no training API. Install one with: diptych runtime install`);
  const { manifest, trainingModel, evalModel, optimizerModel, initial } = artifacts;
  if (!trainingModel || !optimizerModel)
    throw new Error("These artifacts hold no training_model.onnx; build them for the training engine.");

  const checkpoint = writeCheckpoint(divided(manifest, initial));
  const parameters = api.make(t.LoadCheckpointFromBuffer, checkpoint, checkpoint.byteLength);
  const options = sessionOptions(api, settings);
  const out: [Pointer | null] = [null];
  try {
    await api.call(
      t.CreateTrainingSessionFromBuffer,
      api.env,
      options,
      parameters,
      trainingModel,
      trainingModel.byteLength,
      evalModel ?? null,
      evalModel?.byteLength ?? 0,
      optimizerModel,
      optimizerModel.byteLength,
      out,
    );
  } catch (error) {
    t.ReleaseCheckpointState(parameters);
    throw error;
  } finally {
    api.ort.ReleaseSessionOptions(options);
  }
  const session = out[0]!;
  const state = new StateSet(api, manifest, initial);
  const readings = new Readings(api, manifest);
  let open = true;
  let busy = false;
  api.check(t.LazyResetGrad(session)); // a step that follows a failed one starts from clean gradients

  const close = (): void => {
    t.ReleaseTrainingSession(session);
    t.ReleaseCheckpointState(parameters);
    state.release();
    readings.release();
  };

  return {
    async step(inputs, scalars) {
      if (!open || busy) throw new Error(open ? "A step is in flight already." : "This training session is released.");
      const given = stepInputs(manifest, inputs, scalars).map((v) => ortTensor(api, v));
      const feeds = [...given, ...state.inputs()].map((v) => v.pointer);
      const fetches = [...readings.values, ...state.outputs()].map((v) => v.pointer);
      busy = true;
      try {
        await api.call(t.TrainStep, session, null, feeds.length, feeds, fetches.length, fetches);
        if (!state.complete()) return {};
        const applied = readings.applied();
        if (applied) await api.call(t.OptimizerStep, session, null);
        state.advance(applied);
        return { applied };
      } finally {
        api.check(t.LazyResetGrad(session));
        for (const v of given) v.release();
        busy = false;
        if (!open) close();
      }
    },
    metrics: readings.metrics,
    tensors() {
      const learned = manifest.parameters.map(({ name }): [string, Tensors[string]] => [
        name,
        takeValue(api, api.make(t.GetParameter, parameters, name, api.allocator)),
      ]);
      return { ...Object.fromEntries(learned), ...state.tensors() };
    },
    load(tensors) {
      const rest = state.load(tensors);
      for (const { name, shape } of manifest.parameters) {
        if (!(name in rest)) continue;
        const value = ortTensor(api, needed(rest, name, shape));
        api.check(t.UpdateParameter(parameters, name, value.pointer));
        value.release();
        delete rest[name];
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
