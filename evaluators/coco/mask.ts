/** pycocotools.mask: the same functions, over run lengths as typed arrays. */
export { area, boxIou, decode, encode, fromString, iou, merge, toBbox, toString, type Rle } from "./rle.js";
export { fromBbox, fromPolygon } from "./polygon.js";
