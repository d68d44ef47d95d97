/** How parameters lie in the arithmetic between gradient and update: each by itself, or stacked with others that have the same options. */
import { grouped } from "../src/grouped.js";
import { constant, dims, type Operand, type Value } from "../src/onnx/graph.js";
import { trimmed } from "../src/ops/index.js";
import type { Parameter } from "../src/step.js";
import type { Layout, Scope } from "./scope.js";
import { stacked, widthOf } from "./stack.js";

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
 * apart: each parameter is a group. stacked: those with equal options are one, as a step is otherwise some ten small kernels a parameter, each
 * of which a card launches for itself. Measured on a CPU that is 1.6 times slower.
 */
export function groupsOf(members: readonly Member[], layout: Layout): Group[] {
  if (layout === "apart") return members.map(alone);
  const key = ({ parameter, options }: Member): string => JSON.stringify([widthOf(parameter.value), options]);
  return [...grouped(members, key).values()].map((group, i) => together(`group${i}`, group));
}

const alone = (member: Member): Group => ({
  name: member.parameter.name,
  members: [member],
  rate: member.rate,
  join: ([v]) => trimmed(v!),
  part: (v) => [v],
  scope: (optimizer) => optimizer.child(member.parameter.name),
});

function together(name: string, members: readonly Member[]): Group {
  const values = members.map((m) => trimmed(m.parameter.value));
  const { shape, rows, join, part } = stacked(values);
  const { rate } = members[0]!;
  const column = members.flatMap((m, i) => Array<number>(rows[i]!).fill(m.rate));
  return {
    name,
    members,
    rate: members.every((m) => m.rate === rate) ? rate : constant([shape[0], 1], column),
    join,
    part,
    scope: (optimizer) =>
      optimizer.joined(
        name,
        members.map((m, i) => ({ name: m.parameter.name, shape: dims(values[i]!) })),
      ),
  };
}
