import type { CocoResult } from "./index.js";
import { average } from "./summary.js";

/** A category's numbers, over all areas and the most detections. */
export interface ClassRow {
  id: number;
  name: string;
  AP: number;
  AP50: number;
  AP75: number;
  AR: number;
}

/** The numbers of each category alone; −1 where it has no objects. */
export function perClass(result: CocoResult): ClassRow[] {
  const maxDets = result.parameters.maxDets.at(-1)!;
  return result.categories.map(({ id, name }, k) => {
    const of = (kind: "AP" | "AR", iou?: number): number =>
      average(result, result.parameters, { kind, iou, area: "all", maxDets }, k);
    return { id, name, AP: of("AP"), AP50: of("AP", 0.5), AP75: of("AP", 0.75), AR: of("AR") };
  });
}
