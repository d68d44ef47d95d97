/** An FCOS detector: a backbone's stages, FPN and head, as a training step and as one model that detects. Names are those of torchvision's FCOS. */
import { input, type Dialect, type Value } from "../../src/onnx/graph.js";
import { Add } from "../../src/ops/index.js";
import type { TrainingStep } from "../../src/step.js";
import type { Tensors } from "../../src/tensor.js";
import { network, networkModel, normalized, type EncoderInfo } from "../encoder.js";
import type { Optimizer } from "../optimizers.js";
import { rootScope, type Scope } from "../scope.js";
import { supervisedStep } from "../step.js";
import { fcosHead, type Predictions } from "./head.js";
import { locationsOf, type Locations } from "./locations.js";
import { fcosLosses } from "./losses.js";
import { featurePyramid } from "./pyramid.js";
import { detectionsOf, type DetectionLimits } from "./suppression.js";
import { targetsOf } from "./targets.js";

export { boxesOf, distancesOf, locationsOf, type Locations } from "./locations.js";
export { fcosHead, type Predictions } from "./head.js";
export { fcosLosses, focalLoss, giouLoss, type FcosLosses } from "./losses.js";
export { featurePyramid } from "./pyramid.js";
export { detectionsOf, type Detected, type DetectionLimits } from "./suppression.js";
export { targetsOf, type Objects, type Targets } from "./targets.js";

export interface DetectorOptions {
  info: EncoderInfo;
  classes: number;
  /** Pixels of the images. */
  height: number;
  width: number;
  /** Of the pyramid and the head; a multiple of 32. */
  channels: number;
  /** Convolutions of each of the head's two towers. */
  convs: number;
}

/** What the backbone does in training: all of it learns, BatchNorms stay as they are, or nothing learns. */
export type BackboneTraining = "all" | "fixedNorms" | "frozen";
export const backboneTrainings = ["all", "fixedNorms", "frozen"] as const satisfies readonly BackboneTraining[];

/** image [B,3,H,W], normalised → what the detector says at every location */
export function detector(
  s: Scope,
  image: Value,
  o: DetectorOptions,
  body: Scope = s.child("backbone").child("body"),
): { predicted: Predictions; locations: Locations } {
  const { backbone, options } = network(o.info.backbone, o.info.options);
  const maps = backbone.stages?.(body, image, options).slice(-3) ?? [];
  if (!maps.length || maps.some((map) => map.shape.length !== 4))
    throw new Error(`${o.info.backbone} has no maps for a feature pyramid; resnet18, resnet34 and resnet50 have.`);
  const pyramid = featurePyramid(s.child("backbone").child("fpn"), maps, o.channels);
  return {
    predicted: fcosHead(s.child("head"), pyramid, o.classes, o.convs),
    locations: locationsOf(pyramid, o.height, o.width),
  };
}

const bodyOf = (s: Scope, training: BackboneTraining): Scope => {
  const body = s.child("backbone").child("body");
  switch (training) {
    case "all":
      return body;
    case "fixedNorms":
      return body.with({ batchNorms: "fixed" });
    case "frozen":
      return body.with({ batchNorms: "fixed" }).frozen();
    default:
      return training satisfies never;
  }
};

export interface DetectionStepOptions extends DetectorOptions {
  dialect: Dialect;
  batchSize: number;
  /** Objects of an image at most, M. */
  objects: number;
  backbone: BackboneTraining;
  optimizer: Optimizer<never>;
  optimizerOptions: object;
}

/** One step of training a detector. Inputs `image` [B,3,H,W] in 0–1, `boxes` [B,M,4] in pixels and `labels` int64 [B,M], −1 for none. */
export function detectionStep(o: DetectionStepOptions): TrainingStep {
  const { scope, collected } = rootScope(o.dialect);
  const origin = { path: "", dialect: o.dialect };
  const image = input("image", "float32", [o.batchSize, o.info.mean.length, o.height, o.width], origin);
  const boxes = input("boxes", "float32", [o.batchSize, o.objects, 4], origin);
  const labels = input("labels", "int64", [o.batchSize, o.objects], origin);
  const seen = normalized(image, o.info.mean, o.info.std);
  const { predicted, locations } = detector(scope, seen, o, bodyOf(scope, o.backbone));
  const losses = fcosLosses(predicted, targetsOf(locations, { boxes, labels }), locations);
  const loss = Object.values(losses).reduce((a, b) => Add(a, b));

  return supervisedStep(scope, collected, { inputs: [image, boxes, labels], loss, metrics: losses }, o);
}

/** detector.onnx: `image` [1,3,H,W] in 0–1 → `boxes` [n,4] as corners in its pixels, `scores` [n], descending, `labels` int64 [n]. */
export const detectorModel = (
  o: DetectorOptions & DetectionLimits,
  tensors: Tensors,
  metadata: Record<string, string> = {},
): Uint8Array =>
  networkModel(
    "detector",
    o.info,
    tensors,
    (s, image) => {
      const { predicted, locations } = detector(s, image, o);
      return { ...detectionsOf(predicted, locations, o) };
    },
    metadata,
    [1, o.height, o.width],
  );
