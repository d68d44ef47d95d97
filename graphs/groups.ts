/** How parameters lie in the arithmetic between gradient and update: each by itself, or joined with others that have the same options. */
import { constant, dims, type Device, type Operand, type Value } from "../src/onnx/graph.js";
import { Concat, Reshape, Split, trimmed } from "../src/ops/index.js";
import type { Parameter } from "../src/step.js";
import { sizeOf } from "../src/tensor.js";
import type { Scope } from "./scope.js";

/** A parameter with the optimizer's options for it, and its share of the learning rate. */
export interface Member {
  parameter: Parameter;
  options: object;
  rate: number;
}

/** Parameters whose gradients become one value, are updated as one, and come apart again. */
export interface Group {
  readonly name: string;
  /** Their options are equal. */
  readonly members: readonly Member[];
  /** Share of the learning rate, or a column of them: what the group's value may be multiplied by. */
  readonly rate: Operand;
  /** One value a parameter → the group's. */
  join(values: readonly Value[]): Value;
  /** The reverse: each parameter's share, trimmed. */
  part(joined: Value): Value[];
  /** The scope of the group's state below the optimizer's. */
  scope(optimizer: Scope): Scope;
}

/**
 * cpu: each parameter is a group. cuda: parameters with equal options lie one below the other in a tensor [rows, width], as a step is
 * otherwise some ten small kernels a parameter, each launched for itself. Measured on a CPU that is 1.6 times slower.
 */
export function groupsOf(members: readonly Member[], device: Device): Group[] {
  if (device === "cpu") return members.map(alone);
  const alike = new Map<string, Member[]>();
  for (const m of members) {
    const key = JSON.stringify([widthOf(m.parameter), m.options]);
    alike.set(key, [...(alike.get(key) ?? []), m]);
  }
  return [...alike.values()].map((group, i) => together(`group${i}`, group));
}

const shapeOf = ({ value }: Parameter): number[] => dims(trimmed(value));

const alone = (member: Member): Group => ({
  name: member.parameter.name,
  members: [member],
  rate: member.rate,
  join: ([v]) => trimmed(v!),
  part: (v) => [v],
  scope: (optimizer) => optimizer.child(member.parameter.name),
});

/**
 * Numbers in a row at most. The CUDA kernels of Concat and Split take a table with an entry for each index of the axis, made by the host
 * and copied each time: 25 million entries for a ResNet-50 as one vector, a 256th of that in rows.
 */
const longestRow = 256;
const gcd = (a: number, b: number): number => (b ? gcd(b, a % b) : a);
/** The longest row that a parameter fills without a rest. */
const widthOf = (p: Parameter): number => gcd(longestRow, sizeOf(shapeOf(p)));

function together(name: string, members: readonly Member[]): Group {
  const shapes = members.map((m) => shapeOf(m.parameter));
  const { parameter, rate } = members[0]!;
  const width = widthOf(parameter);
  const rows = shapes.map((s) => sizeOf(s) / width);
  const column = members.flatMap((m, i) => Array<number>(rows[i]!).fill(m.rate));
  return {
    name,
    members,
    rate: members.every((m) => m.rate === rate) ? rate : constant([column.length, 1], column),
    join: (values) =>
      Concat(
        values.map((v, i) => Reshape(v, [rows[i]!, width])),
        { axis: 0 },
      ),
    part(joined) {
      const parts = members.length > 1 ? Split(joined, rows, { axis: 0 }) : [joined];
      return parts.map((v, i) => Reshape(v, shapes[i]!));
    },
    scope: (optimizer) =>
      optimizer.joined(
        name,
        members.map((m, i) => ({ name: m.parameter.name, shape: shapes[i]! })),
      ),
  };
}
