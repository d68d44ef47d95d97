/** COCO's files to columns: instances_*.json and person_keypoints_*.json as ground truth, and the results format. */
import { Masks, Numbers, type Detections, type GroundTruth, type IouType } from "./columns.js";
import { Entry, field } from "./entry.js";
import { fileSource, JsonReader, keys, type Source } from "./json.js";
import { Notes } from "./notes.js";

export interface Read<T> {
  data: T;
  /** What was accepted though it looks wrong, a sentence each. */
  warnings: string[];
}

const datasetKeys = keys("images", "annotations", "categories");
const imageKeys = keys("id", "height", "width");
const nameKeys = keys("id", "file_name");
const categoryKeys = keys("id", "name");

/** Opens the file, or takes the source, and closes it whatever happens. */
function reading<T>(from: string | Source, read: (r: JsonReader, source: Source) => T): T {
  const source = typeof from === "string" ? fileSource(from) : from;
  try {
    return read(new JsonReader(source), source);
  } finally {
    source.close();
  }
}

/** Ids to their indices; entries come in runs of the same id, so the last answer is kept. */
function indexer(ids: ArrayLike<number>): (id: number) => number {
  const index = new Map<number, number>();
  for (let i = 0; i < ids.length; i++) index.set(ids[i]!, i);
  let last = NaN;
  let answer = -1;
  return (id) => {
    if (id !== last) {
      last = id;
      answer = index.get(id) ?? -1;
    }
    return answer;
  };
}

/** The indices of the first n ids. */
function indices(ids: Numbers, n: number, indexOf: (id: number) => number): Int32Array {
  const index = new Int32Array(n);
  for (let i = 0; i < n; i++) index[i] = indexOf(ids.data[i]!);
  return index;
}

/** The ground truth of a file, as much of it as the comparison needs. */
export function readGroundTruth(from: string | Source, iouType: IouType): Read<GroundTruth> {
  return reading(from, (r, source) => {
    if (!r.isObject()) r.fail("is no object with images, annotations and categories");
    const masks = new Masks(iouType === "segm" ? source.size : 0);
    const entry = new Entry(r, masks);
    const wanted = { mask: iouType === "segm", keypoints: iouType === "keypoints" };
    const column = () => new Numbers();
    const [imageId, height, width] = [column(), column(), column()];
    const [image, category, id, area, crowd, labelled] = [column(), column(), column(), column(), column(), column()];
    const [boxes, keypoints] = [column(), column()];
    const categories: { id: number; name: string }[] = [];
    const counts = { images: -1, annotations: -1, categories: -1 };
    let keypointNumbers = 0;

    const readImage = (n: number): void => {
      height.set(n, NaN);
      width.set(n, NaN);
      imageId.set(n, NaN);
      if (r.openObject())
        do {
          const k = r.key(imageKeys);
          if (k < 0 || r.isNull()) r.skip();
          else [imageId, height, width][k]!.set(n, r.number());
        } while (r.moreKeys());
      if (!Number.isSafeInteger(imageId.data[n])) r.fail("has no integer as id");
    };
    const readCategory = (n: number): void => {
      const own = (categories[n] = { id: NaN, name: "" });
      if (r.openObject())
        do {
          const k = r.key(categoryKeys);
          if (k === 0) own.id = r.number();
          else if (k === 1 && r.isString()) own.name = r.string();
          else r.skip();
        } while (r.moreKeys());
      if (!Number.isSafeInteger(own.id)) r.fail("has no integer as id");
    };
    const readAnnotation = (n: number): void => {
      entry.read(wanted);
      image.set(n, entry.id(field.imageId));
      category.set(n, entry.id(field.categoryId));
      id.set(n, entry.id(field.id));
      area.set(n, entry.get(field.area));
      crowd.set(n, entry.get(field.crowd, 0));
      if (iouType !== "segm") entry.keepBox(boxes, n);
      else entry.keepMask(n);
      if (iouType === "keypoints") {
        labelled.set(n, entry.get(field.numKeypoints));
        keypointNumbers = entry.keepKeypoints(keypoints, n, keypointNumbers);
      }
    };
    r.top(datasetKeys, (key) => {
      if (key === 0) counts.images = r.each("images", readImage);
      else if (key === 1) counts.annotations = r.each("annotations", readAnnotation);
      else if (key === 2) counts.categories = r.each("categories", readCategory);
      else r.skipTop();
    });
    r.finish();
    for (const [name, count] of Object.entries(counts)) if (count < 0) r.fail(`has no ${name}`);

    const n = counts.annotations;
    const notes = new Notes(source.name);
    const rowOf = new Map(Array.from({ length: counts.images }, (_, i) => [imageId.data[i]!, i])); // the last of equal ids
    const ids = Float64Array.from(rowOf.keys()).sort();
    const known = [...new Map(categories.map((c) => [c.id, c])).values()].sort((a, b) => a.id - b.id);
    const data: GroundTruth = {
      length: n,
      images: {
        id: ids,
        height: ids.map((i) => height.data[rowOf.get(i)!]!),
        width: ids.map((i) => width.data[rowOf.get(i)!]!),
      },
      categories: known,
      image: indices(image, n, indexer(ids)),
      category: indices(category, n, indexer(known.map((c) => c.id))),
      id: id.data.subarray(0, n),
      area: area.data.subarray(0, n),
      crowd: new Uint8Array(n).map((_, i) => Number(crowd.data[i] !== 0)),
      ...(iouType !== "segm" && { boxes: boxes.data.subarray(0, 4 * n) }),
      ...(iouType === "segm" && { masks }),
      ...(iouType === "keypoints" && {
        keypoints: keypoints.data.subarray(0, keypointNumbers * n),
        labelled: labelled.data.subarray(0, n),
      }),
    };
    for (let i = 0; i < n; i++) {
      if (data.image[i]! < 0) notes.add("annotations of unknown images are left out", `annotations[${i}]`);
      if (data.category[i]! < 0) notes.add("annotations of unknown categories are left out", `annotations[${i}]`);
      if (data.id[i] === 0)
        notes.add("annotation has id 0: what it matches counts as unmatched, as in pycocotools", `annotations[${i}]`);
    }
    if (data.masks) drawOn(data.masks, data, data.images, notes, "annotations");
    repeatedIds(data, notes);
    return { data, warnings: notes.lines() };
  });
}

/** The file name of each image of an annotation file, by its id. */
export function readImageNames(from: string | Source): Map<number, string> {
  return reading(from, (r) => {
    if (!r.isObject()) r.fail("is no object with images, annotations and categories");
    const names = new Map<number, string>();
    const readImage = (): void => {
      let [id, name] = [NaN, ""];
      if (r.openObject())
        do {
          const k = r.key(nameKeys);
          if (k === 0) id = r.number();
          else if (k === 1 && r.isString()) name = r.string();
          else r.skip();
        } while (r.moreKeys());
      if (!name) r.fail("has no file_name");
      names.set(id, name);
    };
    r.top(datasetKeys, (key) => {
      if (key === 0) r.each("images", readImage);
      else r.skipTop();
    });
    r.finish();
    return names;
  });
}

/** Gives polygons the size of their images; run lengths have their own. */
function drawOn(
  masks: Masks,
  { length, image }: Pick<GroundTruth, "length" | "image">,
  images: GroundTruth["images"],
  notes: Notes,
  list: string,
): void {
  for (let i = 0; i < length; i++) {
    const own = image[i]!;
    if (own < 0) continue;
    const [height, width] = [images.height[own]!, images.width[own]!];
    if (masks.isPolygon(i)) {
      masks.height.data[i] = height;
      masks.width.data[i] = width;
      if (!(height > 0 && width > 0))
        throw new Error(
          `Image ${images.id[own]} has no height and width, on which the polygons of ${list}[${i}] are drawn.`,
        );
    } else if (masks.height.data[i] !== height || masks.width.data[i] !== width)
      notes.add("masks have another size than their image and match only masks of that size", `${list}[${i}]`);
  }
}

/** Of annotations with one id pycocotools sees the last one, as often as there are. */
function repeatedIds(data: GroundTruth, notes: Notes): void {
  if (data.id.every((id, i) => i === 0 || id > data.id[i - 1]!)) return;
  const last = new Map(Array.from(data.id, (id, i) => [id, i]));
  for (let i = 0; i < data.length; i++) {
    const row = last.get(data.id[i]!)!;
    if (row === i) continue;
    notes.add("annotations have the id of a later one, which counts in their place", `annotations[${i}]`);
    if (data.image[i]! >= 0 && data.category[i]! >= 0) copyRow(data, row, i);
    else data.image[i] = -1;
  }
}
function copyRow(data: GroundTruth, from: number, to: number): void {
  const { masks } = data;
  for (const column of [data.image, data.category, data.area, data.crowd, data.boxes, data.keypoints, data.labelled]) {
    const width = column ? column.length / data.length : 0;
    column?.copyWithin(to * width, from * width, (from + 1) * width);
  }
  for (const column of masks ? [masks.first, masks.end, masks.height, masks.width] : [])
    column.data[to] = column.data[from]!;
  masks?.reach.data.copyWithin(4 * to, 4 * from, 4 * from + 4);
}

/** The detections of a results file, [{image_id, category_id, score, bbox | segmentation | keypoints}, …]. */
export function readDetections(from: string | Source, truth: GroundTruth, iouType: IouType): Read<Detections> {
  return reading(from, (r, source) => {
    if (r.isObject()) r.fail("is an object; an array of results is expected");
    const notes = new Notes(source.name);
    const masks = new Masks(source.size);
    const entry = new Entry(r, masks);
    const imageOf = indexer(truth.images.id);
    const categoryOf = indexer(truth.categories.map((c) => c.id));
    const column = () => new Numbers();
    const [image, category, score, area, boxes, keypoints] = [
      column(),
      column(),
      column(),
      column(),
      column(),
      column(),
    ];
    // pycocotools takes area and box of all detections from what the first one has
    let form: IouType = iouType;
    let wanted = { mask: true, keypoints: true };
    let keypointNumbers = 0;

    const length = r.each("results", (n) => {
      entry.read(wanted);
      if (n === 0) {
        if (entry.hasCaption) r.fail("is a caption; detections are expected");
        form = formOf(entry) ?? r.fail("has no bbox, segmentation or keypoints");
        wanted = {
          mask: iouType === "segm" || form === "segm",
          keypoints: iouType === "keypoints" || form === "keypoints",
        };
      }
      const own = imageOf(entry.id(field.imageId));
      if (own < 0) r.fail(`is on image ${entry.get(field.imageId)}, which the ground truth has not`);
      image.set(n, own);
      category.set(n, categoryOf(entry.id(field.categoryId)));
      score.set(n, entry.get(field.score));
      if (form === "bbox") {
        entry.keepBox(boxes, n);
        area.set(n, boxes.data[4 * n + 2]! * boxes.data[4 * n + 3]!);
        if (iouType === "segm" && entry.mask === "none") entry.boxAsMask();
      } else if (form === "segm") {
        if (entry.mask === "polygons") r.fail("has polygons and no bbox; pycocotools takes run lengths only");
      } else area.set(n, entry.keypointArea());
      if (iouType === "segm" || form === "segm") {
        const measured = entry.keepMask(n);
        if (form === "segm") {
          area.set(n, measured!.area);
          if (entry.boxLength < 0) entry.setBox(measured!.box);
          entry.keepBox(boxes, n);
        }
      }
      if (iouType === "keypoints") keypointNumbers = entry.keepKeypoints(keypoints, n, keypointNumbers);
    });
    r.finish();
    const data: Detections = {
      length,
      image: new Int32Array(image.data.subarray(0, length)),
      category: new Int32Array(category.data.subarray(0, length)),
      score: score.data.subarray(0, length),
      area: area.data.subarray(0, length),
      ...(iouType === "bbox" && { boxes: boxes.data.subarray(0, 4 * length) }),
      ...(iouType === "segm" && { masks }),
      ...(iouType === "keypoints" && { keypoints: keypoints.data.subarray(0, keypointNumbers * length) }),
    };
    if (length === 0) notes.add("detections are all there are, which pycocotools would not load", "the file");
    remarks(data, truth, notes);
    if (data.masks) drawOn(data.masks, data, truth.images, notes, "results");
    return { data, warnings: notes.lines() };
  });
}

function formOf(entry: Entry): IouType | undefined {
  if (entry.boxLength > 0) return "bbox";
  if (entry.mask !== "none") return "segm";
  return entry.keypointsLength >= 0 ? "keypoints" : undefined;
}

/** What pycocotools passes in silence. */
function remarks({ length, image, category, score, boxes }: Detections, { images }: GroundTruth, notes: Notes): void {
  for (let i = 0; i < length; i++) {
    if (category[i]! < 0) notes.add("detections of unknown categories are left out", `results[${i}]`);
    if (!Number.isFinite(score[i])) notes.add("scores are not finite; NaN ranks last", `results[${i}]`);
    if (!boxes) continue;
    const [x, y, w, h] = [boxes[4 * i]!, boxes[4 * i + 1]!, boxes[4 * i + 2]!, boxes[4 * i + 3]!];
    if (!(w > 0 && h > 0)) notes.add("boxes have no area and match nothing", `results[${i}]`);
    else if (x < -1 || y < -1 || x + w > images.width[image[i]!]! + 1 || y + h > images.height[image[i]!]! + 1)
      notes.add("boxes reach more than a pixel out of their image", `results[${i}]`);
  }
}
