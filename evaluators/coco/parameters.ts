/** What an evaluation looks at, with pycocotools' defaults. */
import type { IouType } from "./columns.js";

export interface AreaRange {
  name: string;
  /** Pixels, both included. */
  min: number;
  max: number;
}

export interface Parameters {
  iouType: IouType;
  /** Overlaps from which a detection counts as found; at most 31. */
  thresholds: Float64Array;
  /** Recalls at which precision is read, ascending. */
  recalls: Float64Array;
  areas: readonly AreaRange[];
  /** How many detections of an image and category count, ascending. */
  maxDets: readonly number[];
  /** false: all categories are one, as for proposals. */
  useCategories: boolean;
  /** Ids of those that count; all without. */
  categories?: readonly number[];
  images?: readonly number[];
  /** Of keypoints: how far each strays in people's hands, relative to the object's size. */
  sigmas: Float64Array;
}

/** NumPy's linspace. */
const linspace = (first: number, last: number, n: number): Float64Array =>
  Float64Array.from({ length: n }, (_, i) => (i === n - 1 ? last : i * ((last - first) / (n - 1)) + first));

const all = { name: "all", min: 0, max: 1e5 ** 2 };
const small = { name: "small", min: 0, max: 32 ** 2 };
const medium = { name: "medium", min: 32 ** 2, max: 96 ** 2 };
const large = { name: "large", min: 96 ** 2, max: 1e5 ** 2 };

/** Nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles. */
const sigmas = [0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89];

export const defaultParameters = (iouType: IouType): Parameters => ({
  iouType,
  thresholds: linspace(0.5, 0.95, 10),
  recalls: linspace(0, 1, 101),
  areas: iouType === "keypoints" ? [all, medium, large] : [all, small, medium, large],
  maxDets: iouType === "keypoints" ? [20] : [1, 10, 100],
  useCategories: true,
  sigmas: Float64Array.from(sigmas, (s) => s / 10),
});
