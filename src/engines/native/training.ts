/** A training step on OrtTrainingApi: parameters live in its checkpoint state, everything else passes through as user inputs and outputs. */
import { divided } from "../../artifacts/index.js";
import type { Artifacts } from "../../artifacts/manifest.js";
import { writeCheckpoint } from "../../artifacts/odtc.js";
import type { TrainingSession } from "../index.js";
import type { Api, Pointer } from "./api.js";
import { Carried, trainingSession } from "./carried.js";
import type { Memory } from "./memory.js";
import { sessionOptions, type Settings } from "./session.js";
import { ortTensor, takeValue } from "./value.js";

export async function openTraining(
  api: Api,
  memory: Memory,
  artifacts: Artifacts,
  settings: Settings,
): Promise<TrainingSession> {
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
  const release = (): void => {
    t.ReleaseTrainingSession(session);
    t.ReleaseCheckpointState(parameters);
  };
  let carried: Carried;
  try {
    carried = new Carried(memory, artifacts, { parameters: false }); // after the session, whose opening takes the most memory
  } catch (error) {
    release();
    throw error;
  }
  const { state, scalars, readings } = carried;
  const settle = (): void => api.check(t.LazyResetGrad(session)); // a step that follows a failed one starts from clean gradients
  settle();

  return trainingSession(carried, {
    async run(inputs) {
      const feeds = [...inputs, ...scalars.values, ...state.inputs()].map((v) => v.pointer);
      const fetches = [...readings.values, ...state.outputs()].map((v) => v.pointer);
      await api.call(t.TrainStep, session, null, feeds.length, feeds, fetches.length, fetches);
    },
    parameters: {
      update: () => api.call(t.OptimizerStep, session, null),
      read: (name) => takeValue(api, api.make(t.GetParameter, parameters, name, api.allocator)),
      write(name, tensor) {
        const value = ortTensor(api, tensor);
        api.check(t.UpdateParameter(parameters, name, value.pointer));
        value.release();
      },
    },
    settle,
    release,
  });
}
