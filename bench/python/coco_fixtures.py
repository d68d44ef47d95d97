"""Writes test/fixtures/coco/: small COCO files with what is awkward in them, and pycocotools' answers.

  python bench/python/coco_fixtures.py test/fixtures/coco [FOLDER_OF_TIDECV]

Needs numpy and pycocotools (2.0.11 wrote the files in the repository). TIDE's answers come from tidecv 1.0.1, whose plots are left out: OpenCV is
not needed for the numbers.
"""
import contextlib, hashlib, io, json, os, random, sys, types
import numpy as np
from pycocotools import mask as M
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

out = sys.argv[1]
rng = random.Random(7)
SIZES = [(120, 90), (64, 150), (200, 160)]
CATEGORIES = [{"id": i, "name": n} for i, n in ((1, "person"), (3, "car"), (4, "a class without objects"), (17, "cat"), (90, "no detections"))]


def ellipse(cx, cy, w, h, n):
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    wobble = 1 - 0.3 * np.abs(np.sin(2.5 * t + cx))
    xy = np.stack([cx + w / 2 * wobble * np.cos(t), cy + h / 2 * wobble * np.sin(t)], 1)
    return [round(float(v), 2) for v in xy.ravel()]


def box_of(polygons):
    x, y = [v for p in polygons for v in p[0::2]], [v for p in polygons for v in p[1::2]]
    return [round(v, 2) for v in (min(x), min(y), max(x) - min(x), max(y) - min(y))]


def counts_of(mask):
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return ([0] if flat[0] else []) + runs


def instances():
    images = [{"width": SIZES[i % 3][0], "id": 900 - 7 * i, "height": SIZES[i % 3][1]} for i in range(14)]
    annotations = []
    for image in images[:-2]:
        W, H = image["width"], image["height"]
        for _ in range(rng.randint(2, 7)):
            w, h = rng.uniform(4, W), rng.uniform(4, H)
            cx, cy = rng.uniform(0, W), rng.uniform(0, H)  # some reach out of the image
            polygons = [ellipse(cx, cy, w, h, rng.randint(3, 12))]
            if rng.random() < 0.3:
                polygons.append(ellipse(cx + w / 3, cy, w, h / 2, 5))
            rle = M.merge(M.frPyObjects(polygons, H, W))
            kind = rng.random()
            crowd = int(kind < 0.12)
            segmentation = polygons
            if crowd or kind < 0.2:
                segmentation = {"counts": counts_of(M.decode(rle)), "size": [H, W]}
            elif kind < 0.3:
                segmentation = {"size": [H, W], "counts": rle["counts"].decode()}
            annotations.append({"segmentation": segmentation, "area": round(float(M.area(rle)) * rng.uniform(0.9, 1.1), 2), "iscrowd": crowd, "image_id": image["id"],
                                "bbox": box_of(polygons), "category_id": rng.choice([1, 1, 1, 3, 3, 17, 90]), "id": 100 + len(annotations), "ignore": 1})
    annotations[3]["id"] = 0  # pycocotools takes what it matches for unmatched
    return {"info": {"year": 2026, "note": "escaped \\ \" and é"}, "annotations": annotations, "images": images, "categories": CATEGORIES}


def detections(truth):
    boxes, masks = [], []
    sizes = {i["id"]: (i["height"], i["width"]) for i in truth["images"]}

    def put(image, category, score, polygons):
        H, W = sizes[image]
        x, y, w, h = box_of(polygons)
        boxes.append({"image_id": image, "category_id": category, "bbox": [x, y, w, h], "score": score})
        rle = M.merge(M.frPyObjects(polygons, H, W))
        masks.append({"image_id": image, "category_id": category, "segmentation": {"size": [H, W], "counts": rle["counts"].decode()}, "score": score})

    for a in truth["annotations"]:
        if a["category_id"] == 90:
            continue
        x, y, w, h = a["bbox"]
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            s = rng.choice([0, 0.05, 0.1, 0.3])
            if isinstance(a["segmentation"], list) and s < 0.2:
                dx, dy = s * rng.uniform(-w, w), s * rng.uniform(-h, h)
                polygons = [[round(v + (dx, dy)[k % 2], 2) for k, v in enumerate(p)] for p in a["segmentation"]]
            else:
                polygons = [ellipse(x + w / 2 + s * rng.uniform(-w, w), y + h / 2 + s * rng.uniform(-h, h), w * rng.uniform(0.8, 1.2), h, 9)]
            category = a["category_id"] if rng.random() > 0.15 else rng.choice([1, 3, 4, 17])
            put(a["image_id"], category, round(rng.random(), 1), polygons)  # one digit: ties
    for image in truth["images"]:
        W, H = image["width"], image["height"]
        put(image["id"], rng.choice([1, 3, 17, 55]), rng.random(), [ellipse(rng.uniform(0, W), rng.uniform(0, H), 30, 20, 8)])  # 17 digits; 55 is unknown
    return boxes, masks


def people():
    images = [{"id": i, "width": 200, "height": 200} for i in range(1, 9)]
    annotations, found = [], []
    for image in images:
        for _ in range(rng.randint(1, 5)):
            x, y, side = rng.randint(0, 100), rng.randint(0, 100), rng.randint(20, 140)
            visible = [rng.choice([0, 1, 2, 2]) for _ in range(17)] if rng.random() > 0.2 else [0] * 17
            points = [(rng.randint(x, x + side), rng.randint(y, y + side)) for _ in range(17)]
            keypoints = [v for (px, py), s in zip(points, visible) for v in ((px, py, s) if s else (0, 0, 0))]
            annotations.append({"id": len(annotations) + 1, "image_id": image["id"], "category_id": 1, "iscrowd": int(rng.random() < 0.1), "area": side * side * 0.6,
                                "bbox": [x, y, side, side], "num_keypoints": sum(s > 0 for s in visible), "keypoints": keypoints})
            for _ in range(rng.choice([0, 1, 1, 2])):
                s = rng.choice([0, 0.03, 0.08, 0.3]) * side
                moved = [v for px, py in points for v in (round(px + rng.uniform(-s, s), 2), round(py + rng.uniform(-s, s), 2), 1)]
                found.append({"image_id": image["id"], "category_id": 1, "keypoints": moved, "score": round(rng.random(), 1)})
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}, found


def write(name, value):
    with open(os.path.join(out, name), "w") as f:
        json.dump(value, f, separators=(",", ":"))


def evaluate(truth, results, iou, options):
    gt = COCO(os.path.join(out, truth))
    if results:
        dt = gt.loadRes(os.path.join(out, results))
    else:  # loadRes refuses an empty list
        dt = COCO()
        dt.dataset = {**gt.dataset, "annotations": []}
        dt.createIndex()
    e = COCOeval(gt, dt, iou)
    for key, value in options.items():
        setattr(e.params, key, value)
    printed = io.StringIO()
    e.evaluate()
    e.accumulate()
    with contextlib.redirect_stdout(printed):
        e.summarize()
    digest = {k: hashlib.sha256(np.ascontiguousarray(e.eval[k], "<f8").tobytes()).hexdigest() for k in ("precision", "recall", "scores")}
    return {"truth": truth, "results": results, "iou": iou, "options": options, "stats": e.stats.tolist(), "table": printed.getvalue().rstrip("\n").split("\n"), **digest}


def masks(truth, count):
    """Polygons and what becomes of them, pair by pair."""
    sizes = {i["id"]: (i["height"], i["width"]) for i in truth["images"]}
    rows = []
    for _ in range(count):
        H, W = rng.choice(list(sizes.values()))
        polygons = []
        for _ in range(2):
            kind = rng.random()
            if kind < 0.5:
                p = ellipse(rng.uniform(-10, W + 10), rng.uniform(-10, H + 10), rng.uniform(1, W), rng.uniform(1, H), rng.randint(3, 9))
            elif kind < 0.7:  # whole numbers: points that coincide, edges on pixel borders
                p = [rng.randint(-2, (W, H)[k % 2] + 2) for k in range(2 * rng.randint(3, 6))]
            else:
                p = [rng.uniform(-20, 1.2 * W) for _ in range(2 * rng.randint(3, 6))]
            polygons.append(p)
        a, b = M.frPyObjects(polygons, H, W)
        text = lambda r: r["counts"].decode()
        rows.append({"size": [H, W], "polygons": polygons, "counts": [text(a), text(b)], "area": [int(v) for v in M.area([a, b])], "bbox": M.toBbox([a, b]).tolist(),
                     "union": text(M.merge([a, b])), "intersection": text(M.merge([a, b], 1)), "iou": M.iou([a], [b], [0])[0, 0], "crowd": M.iou([a], [b], [1])[0, 0]})
    return rows


def tide(folder, results, mode):
    for name in ("cv2", "appdirs", "seaborn", "pandas", "matplotlib", "matplotlib.pyplot", "tidecv.plotting"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["cv2"].FONT_HERSHEY_SIMPLEX = sys.modules["cv2"].LINE_AA = 0
    sys.modules["appdirs"].user_data_dir = str
    sys.modules["tidecv.plotting"].Plotter = object
    sys.path.insert(0, folder)
    from tidecv import datasets
    from tidecv.quantify import TIDE
    known = {c["id"] for c in CATEGORIES}  # tidecv would take an unknown category for one without objects
    write("known.json", [d for d in json.load(open(os.path.join(out, results))) if d["category_id"] in known])
    # among equal scores tidecv goes by the order of images in the file, we by their ids
    write("sorted.json", {**truth, "images": sorted(truth["images"], key=lambda i: i["id"])})
    run = TIDE(mode=mode).evaluate(datasets.COCO(os.path.join(out, "sorted.json")), datasets.COCOResult(os.path.join(out, "known.json")), mode=mode, name="x")
    os.remove(os.path.join(out, "known.json"))
    os.remove(os.path.join(out, "sorted.json"))
    named = lambda values: {("Missed" if k.short_name == "Miss" else k.short_name): v for k, v in values.items()}
    return {"results": results, "iou": {"mask": "segm"}.get(mode, mode), "AP": run.ap, "errors": named(run.fix_main_errors()), "counts": named(run.count_errors())}


truth = instances()
for image in truth["images"]:
    image["file_name"] = f"{image['id']}.jpg"
boxes, segments = detections(truth)
write("instances.json", truth)
write("bbox.json", boxes)
write("segm.json", segments)
write("not-finite.json", [{**b, "score": (float("nan"), float("inf"), -0.0, 0.0)[i % 4]} if i % 3 == 0 else b for i, b in enumerate(boxes)])
crowded = [{**b, "segmentation": s["segmentation"]} for b, s in zip(boxes, segments)]
write("both.json", crowded[:40])
persons, keypoints = people()
write("persons.json", persons)
write("keypoints.json", keypoints)

cases = []
for iou, truth_file, results in (("bbox", "instances.json", "bbox.json"), ("segm", "instances.json", "segm.json"), ("keypoints", "persons.json", "keypoints.json")):
    options = [{}, {"useCats": 0}, {"imgIds": [i["id"] for i in (truth if iou != "keypoints" else persons)["images"][:5]]}]
    if iou != "keypoints":
        options += [{"maxDets": [1, 2, 100]}, {"maxDets": [3, 1, 2]}, {"catIds": [3, 1]}, {"catIds": [4]}, {"areaRng": [[0, 1e10], [0, 300.5], [300.5, 2000], [2000, 1e10]]},
                    {"catIds": [17, 1], "useCats": 0, "maxDets": [1, 4, 100]}]
    else:
        options += [{"maxDets": [2, 20]}]
    cases += [evaluate(truth_file, results, iou, o) for o in options]
    cases.append(evaluate(truth_file, None, iou, {}))
cases.append(evaluate("instances.json", "not-finite.json", "bbox", {}))
cases.append(evaluate("instances.json", "segm.json", "bbox", {}))
cases.append(evaluate("instances.json", "bbox.json", "segm", {}))
cases.append(evaluate("instances.json", "both.json", "segm", {}))
cases.append(evaluate("instances.json", "both.json", "bbox", {}))
answers = {"pycocotools": "2.0.11", "cases": cases, "masks": masks(truth, 60)}
if len(sys.argv) > 2:
    answers["tide"] = [tide(sys.argv[2], "bbox.json", "bbox"), tide(sys.argv[2], "segm.json", "mask"), tide(sys.argv[2], "both.json", "mask")]
write("answers.json", answers)
