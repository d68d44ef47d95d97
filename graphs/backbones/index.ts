/** The backbones: one file each, one line here. */
import type { Choices } from "../../src/names.js";
import type { Value } from "../../src/onnx/graph.js";
import type { Scope } from "../scope.js";
import { smallAlexNet } from "./alexnet.js";
import { onnx } from "./onnx.js";
import { resnet18, resnet34, resnet50 } from "./resnet.js";
import { mocoVitBase, mocoVitSmall } from "./mocoVit.js";
import { vitBase, vitSmall, vitTiny } from "./vit.js";

export interface Features {
  /** [B,D,h,w] */
  map: Value;
  /** [B,D] */
  features: Value;
}

export interface Backbone<Options> {
  summary: string;
  defaults: Options;
  /** The words that an option may be, where it is one of a few. */
  choices?: Choices<Options>;
  /** Takes images of any height and width; else of the size it was built for. */
  anySize: boolean;
  /** D, the width of features. */
  width(options: Options): number;
  /** image [B,C,H,W], normalised → features; `tokens` [B,N] int64, where the network can, runs only those patches. */
  forward(s: Scope, image: Value, options: Options, tokens?: Value): Features;
  /** Patches a side of an image of `size` pixels, where `tokens` may be chosen. */
  grid?(options: Options, size: number): number;
  /** What the class token takes from each patch in the last block, by head [B,H,h,w], where there is one. */
  attention?(s: Scope, image: Value, options: Options): Value;
  /** The intermediate maps, stem first, where the network has stages. */
  stages?(s: Scope, image: Value, options: Options): Value[];
}

/* eslint-disable @typescript-eslint/no-explicit-any -- options differ from entry to entry */
export const backbones = {
  resnet18,
  resnet34,
  resnet50,
  vitTiny,
  vitSmall,
  vitBase,
  mocoVitSmall,
  mocoVitBase,
  smallAlexNet,
  onnx,
} satisfies Record<string, Backbone<any>>;
export type BackboneName = keyof typeof backbones;
