/** A training step: forward, loss and backward (`lossGradients`), then the optimizer's arithmetic (`updatesOf`), composed for one device. */
import { gradients as differentiate } from "../src/autodiff.js";
import { constant, input, type Device, type Dialect, type Operand, type Value } from "../src/onnx/graph.js";
import { Abs, Add, And, Less, Mul, trimmed, untrimmed } from "../src/ops/index.js";
import type { Accumulation, Parameter, TrainingStep } from "../src/step.js";
import { clipped, globalNorm, type Clipping } from "./clipping.js";
import { groupsOf, type Group } from "./groups.js";
import type { DrawSpec, Method, Network } from "./methods/index.js";
import { optionsOf, type Optimizer } from "./optimizers.js";
import {
  lossScaleDefaults,
  lossScaling,
  precisions,
  refuseWithoutKernels,
  type LossScale,
  type Precision,
} from "./precision.js";
import { rootScope, statesOf, type Collected, type Layout, type Scope } from "./scope.js";

export interface StepOptions extends Clipping {
  dialect: Dialect;
  /** Where the step is to run; default cpu. */
  device?: Device;
  /** Default the device's; see Scope. */
  layout?: Layout;
  method: Method<never>;
  methodOptions: object;
  network: Network;
  optimizer: Optimizer<never>;
  optimizerOptions: object;
  batchSize: number;
  /** Pixels a side of the views. */
  size: number;
  channels?: number;
  /** Default "fast"; see Scope. */
  convolutions?: Scope["convolutions"];
  /** Default fp32. */
  precision?: Precision;
  /** Of fp16. */
  lossScale?: Partial<LossScale>;
  /**
   * Batches that make one update, default 1: the update is that of their mean gradient, of one batch so many times larger where the loss
   * is a mean over images (BatchNorm's statistics, and negatives taken from the batch, stay those of each batch).
   */
  accumulate?: number;
}

/** The whole step as values of one graph: `lossGradients` and `updatesOf`, which meet at the gradient. */
export function trainingStep(o: StepOptions): TrainingStep {
  const { scope: plain, collected } = rootScope(o.dialect, "train", undefined, o.device);
  const root = plain.with({ layout: o.layout ?? plain.layout });
  const precision = o.precision ?? "fp32";
  const scope = root.with({ convolutions: o.convolutions ?? "fast", compute: precisions[precision] });
  const scaling = precision === "fp16" ? lossScaling(root, { ...lossScaleDefaults, ...o.lossScale }) : undefined;
  const batch = lossGradients(scope, collected, o, scaling);
  const { loss, metrics, gradients, accumulation } = accumulated(batch, o.accumulate ?? 1);
  const { norm, applied } = measured(loss, [...gradients.values()]);
  const updates = updatesOf(scope, gradients, norm, o);
  scaling?.move(applied);
  if (precision === "bf16") refuseWithoutKernels([...updates.values()]);
  return {
    dialect: o.dialect,
    inputs: batch.inputs,
    scalars: [...collected.scalars.values()],
    parameters: [...collected.parameters.values()],
    state: statesOf(collected),
    loss,
    metrics: { ...metrics, gradNorm: norm, ...(scaling && { lossScale: scaling.scale }) },
    applied,
    gradients: parted(gradients),
    updates,
    accumulation,
    evaluation: evaluation(o),
  };
}

/** What stands at the seam. */
interface Learned {
  loss: Value;
  metrics: Record<string, Value>;
  gradients: ReadonlyMap<Group, Value>;
}

/** Forward, loss, backward: views and draws → the loss, its metrics, and the gradient of each group of trainable parameters. */
function lossGradients(
  scope: Scope,
  collected: Collected,
  o: StepOptions,
  scaling?: ReturnType<typeof lossScaling>,
): Learned & { inputs: Value[] } {
  const method = o.method as unknown as Method<object>;
  const origin = { path: "", dialect: o.dialect, device: o.device };
  const views: DrawSpec[] = method
    .views(o.methodOptions, o.size)
    .map((v) => ({ name: v.name, dtype: "float32", shape: [v.count, o.batchSize, o.channels ?? 3, v.size, v.size] }));
  const draws = method.draws?.(o.methodOptions, o.batchSize) ?? [];
  const inputs = [...views, ...draws].map((d) => input(d.name, d.dtype, d.shape, origin));
  const byName = Object.fromEntries(inputs.map((v) => [v.name!, v]));
  const own = method.embed(scope, o.network, byName, o.methodOptions);
  const { loss, metrics } = method.loss(scope, own, own, o.methodOptions);
  return { inputs, loss, metrics, gradients: gradientsOf(groupsIn(scope, collected, o), loss, scaling) };
}

/** The trainable parameters, in groups as the layout has them. */
function groupsIn({ layout }: Scope, { parameters }: Collected, o: Updating): Group[] {
  const trainable = [...parameters.values()].filter((p) => p.trainable);
  const members = trainable.map((parameter) => {
    const { rate, options } = o.own?.(parameter.name) ?? { rate: 1, options: o.optimizerOptions };
    return { parameter, rate, options: optionsOf(o.optimizer as Optimizer<object>, trimmed(parameter.value), options) };
  });
  return groupsOf(members, layout);
}

/** The gradient of each group; of a scaled loss, divided by the scale again. */
function gradientsOf(
  groups: readonly Group[],
  loss: Value,
  scaling?: ReturnType<typeof lossScaling>,
): Map<Group, Value> {
  const found = differentiate(
    scaling ? Mul(loss, scaling.scale) : loss,
    groups.flatMap((group) => valuesOf(group)),
  );
  const joined = (group: Group): Value => group.join(found.splice(0, group.members.length));
  return new Map(groups.map((group) => [group, scaling ? scaling.unscaled(joined(group)) : joined(group)]));
}

/** A value a group → a value a parameter. */
const parted = (values: ReadonlyMap<Group, Value>): Map<Parameter, Value> =>
  new Map(
    [...values].flatMap(([{ members, part }, v]) => {
      const parts = part(v);
      return members.map(({ parameter: p }, i): [Parameter, Value] => [p, untrimmed(parts[i]!, p.value)]);
    }),
  );
const valuesOf = ({ members }: Group): Value[] => members.map((m) => m.parameter.value);

/** Σ v/k over the batches of an update so far, for all that stands at the seam: at the last of k batches, their mean. */
function accumulated({ loss, metrics, gradients }: Learned, k: number): Learned & { accumulation?: Accumulation } {
  if (k === 1) return { loss, metrics, gradients };
  const sums: { name: string; input: Value; next: Value }[] = [];
  const sum = (name: string, v: Value): Value => {
    const before = input(`accumulated.${name}`, v.dtype, v.shape);
    const next = Add(before, Mul(v, 1 / k));
    sums.push({ name: before.name!, input: before, next });
    return next;
  };
  return {
    loss: sum("loss", loss),
    metrics: Object.fromEntries(Object.entries(metrics).map(([name, v]) => [name, sum(name, v)])),
    gradients: new Map([...gradients].map(([group, g]) => [group, sum(group.name, g)])),
    accumulation: { batches: k, sums },
  };
}

/** A step whose loss is all that a judge trains by: the gradients of the scope's trainable parameters, and their updates. */
export function supervisedStep(
  scope: Scope,
  collected: Collected,
  { inputs, loss, metrics = {} }: { inputs: readonly Value[]; loss: Value; metrics?: Record<string, Value> },
  updating: Updating,
): TrainingStep {
  const gradients = gradientsOf(groupsIn(scope, collected, updating), loss);
  const { norm, applied } = measured(loss, [...gradients.values()]);
  const updates = updatesOf(scope, gradients, norm, updating);
  return {
    dialect: scope.dialect,
    inputs,
    scalars: [...collected.scalars.values()],
    parameters: [...collected.parameters.values()],
    state: statesOf(collected),
    loss,
    metrics: { ...metrics, gradNorm: norm },
    applied,
    gradients: parted(gradients),
    updates,
  };
}

export interface Updating extends Clipping {
  optimizer: Optimizer<never>;
  optimizerOptions: object;
  /** What one parameter has of its own: a share of the learning rate (layer-wise decay), other options (no weight decay). */
  own?(name: string): { rate: number; options: object };
}

/** The optimizer's arithmetic: gradients of the given norm → the update of each parameter, clipping and rate applied. */
function updatesOf(scope: Scope, gradients: Learned["gradients"], norm: Value, o: Updating): TrainingStep["updates"] {
  const optimizer = o.optimizer as unknown as Optimizer<object>;
  const lr = scope.scalar("lr");
  const rated = (share: Operand): Value => (share === 1 ? lr : Mul(lr, share));
  const shared = scope.with({ every: "update" }).child("optimizer");
  optimizer.begin?.(shared, o.optimizerOptions);
  const bounded = clipped([...gradients.values()], norm, o);
  const updateOf = (group: Group, g: Value): Value => {
    const { members } = group;
    const { options } = members[0]!;
    const each = optimizer.tensorwise?.(options);
    const own = (v: Value, i: number) => each!(trimmed(members[i]!.parameter.value), v, rated(members[i]!.rate));
    const direction = each ? group.join(group.part(g).map(own)) : g;
    return optimizer.update(
      group.scope(shared),
      group.join(valuesOf(group)),
      direction,
      rated(group.rate),
      options,
      shared,
    );
  };
  return parted(new Map([...gradients.keys()].map((group, i) => [group, updateOf(group, bounded[i]!)])));
}

/** The exported branch in evaluation mode, on one batch of normalised images. */
function evaluation(o: StepOptions): TrainingStep["evaluation"] {
  const { scope, collected } = rootScope(o.dialect, "eval");
  const image = input("image", "float32", [o.batchSize, o.channels ?? 3, o.size, o.size]);
  const { features, map } = o.network(
    o.method.encoder.split(".").reduce((s, name) => s.child(name), scope),
    image,
  );
  return { inputs: [image, ...[...collected.states.values()].map((e) => e.input)], outputs: { features, map } };
}

/** ‖g‖ over all parameters, and whether it and the loss are finite. */
function measured(loss: Value, gradients: readonly Value[]): { norm: Value; applied: Value } {
  const { norm, square } = globalNorm(gradients);
  const finite = (v: Value) => Less(Abs(v), constant([], Infinity));
  return { norm, applied: And(finite(square), finite(loss)) };
}
