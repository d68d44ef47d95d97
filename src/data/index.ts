/** Datasets: images by index, with labels where there are any. One file each, one line here. */
import { cifar10 } from "./cifar10.js";
import type { DataSource } from "./dataset.js";
import { imageFolder } from "./imageFolder.js";

export * from "./cached.js";
export * from "./dataset.js";

export const datasets = { imageFolder, cifar10 } satisfies Record<string, DataSource>;
export type DatasetName = keyof typeof datasets;
