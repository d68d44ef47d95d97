/** What a method asks of its views: plain data, in the order torchvision pipelines apply it. */

/** Channels of an image: grey, RGB, RGB and alpha. */
export const channelCounts = [1, 3, 4] as const;
export type Channels = (typeof channelCounts)[number];

/** What is subtracted from each channel, in 0–1, and what it is divided by then. */
export interface Statistics {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

export interface ViewSpec {
  /** Name of the tensor [count, B, C, size, size] that the step receives. */
  readonly name: string;
  /** C; default 3. Of four channels the first three are colours, and alpha is moved and blurred with them. */
  readonly channels?: Channels;
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
  readonly normalize?: Statistics;
}

/** Which arithmetic augmentation follows: torchvision's float tensors, or PIL's uint8 images. */
export type Pixels = "float" | "pil";

export const imagenetStatistics = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] } as const;
export const cifarStatistics = { mean: [0.4914, 0.4822, 0.4465], std: [0.2023, 0.1994, 0.201] } as const;

/** Statistics of RGB as those of so many channels: their mean for grey; alpha stays as it is. Those of the right length stay, too. */
export function statisticsOf({ mean, std }: Statistics, channels: Channels): Statistics {
  if (mean.length === channels && std.length === channels) return { mean, std };
  if (mean.length !== 3 || std.length !== 3)
    throw new Error(
      `Expected ${channels} means and deviations, one a channel, but received ${mean.length} and ${std.length}.`,
    );
  if (channels === 4) return { mean: [...mean, 0], std: [...std, 1] };
  const average = (v: readonly number[]): number[] => [v.reduce((a, b) => a + b, 0) / v.length];
  return { mean: average(mean), std: average(std) };
}

/** The view of images with so many channels. Grey ones have no saturation and no hue to change. */
export function viewOf(view: ViewSpec, channels: Channels): ViewSpec {
  const { jitter, grey, normalize, ...rest } = view;
  const colours = channels === 1 ? { jitter: jitter && { ...jitter, saturation: 0, hue: 0 } } : { jitter, grey };
  return { ...rest, ...colours, channels, normalize: normalize && statisticsOf(normalize, channels) };
}
