/** What a method asks of its views: plain data, in the order torchvision pipelines apply it. */

export interface ViewSpec {
  /** Name of the tensor [count, B, 3, size, size] that the step receives. */
  readonly name: string;
  /** Views of this kind drawn from each image. */
  readonly count: number;
  /** Height and width in pixels. */
  readonly size: number;
  /** RandomResizedCrop: share of the area, aspect ratio (log-uniform), 10 tries, then centre crop. */
  readonly crop: {
    readonly scale: readonly [number, number];
    readonly ratio?: readonly [number, number];
    readonly interpolation?: "bilinear" | "bicubic";
    /** Filter widened when shrinking, as PIL and torchvision do by default. */
    readonly antialias?: boolean;
  };
  /** Probability of a horizontal flip. Default 0.5. */
  readonly flip?: number;
  /** ColorJitter: half ranges around 1 (hue around 0, in turns), in random order, with probability p. */
  readonly jitter?: {
    readonly p: number;
    readonly brightness: number;
    readonly contrast: number;
    readonly saturation: number;
    readonly hue: number;
  };
  /** Probability of RandomGrayscale. */
  readonly grey?: number;
  /** Gaussian blur with σ uniform in `sigma`, in pixels. */
  readonly blur?: { readonly p: number; readonly sigma: readonly [number, number] };
  /** Inversion of values ≥ threshold (in 0–1, default 0.5). */
  readonly solarize?: { readonly p: number; readonly threshold?: number };
  /** Channel means and deviations in 0–1; absent: values stay in 0–1. */
  readonly normalize?: { readonly mean: readonly number[]; readonly std: readonly number[] };
}

/** Which arithmetic augmentation follows: torchvision's float tensors, or PIL's uint8 images. */
export type Pixels = "float" | "pil";

export const imagenetStatistics = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] } as const;
export const cifarStatistics = { mean: [0.4914, 0.4822, 0.4465], std: [0.2023, 0.1994, 0.201] } as const;
