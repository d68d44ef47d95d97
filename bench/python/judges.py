"""VOC and mIoU beside other implementations, on random files: judges.py bin/diptych.cjs

mIoU and confusion: scikit-learn. VOC: the development kit's rules in NumPy below (as py-faster-rcnn's voc_eval.py states them).
"""
import json, os, subprocess, sys, tempfile
import numpy as np
from PIL import Image
from sklearn.metrics import confusion_matrix, jaccard_score

bin_file = sys.argv[1]
rng = np.random.RandomState(0)
passed = failed = 0


def report(name, ok, detail=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print(("ok    " if ok else "FAILED"), name, detail)


def diptych(*args):
    return json.loads(subprocess.run(["node", bin_file, *args, "--json"], check=True, capture_output=True, text=True).stdout)


def voc_ap(recall, precision, eleven):
    if eleven:
        return sum(precision[recall >= t].max() if (recall >= t).any() else 0 for t in np.arange(0, 1.1, 0.1)) / 11
    r, p = np.concatenate(([0], recall, [1])), np.concatenate(([0], precision, [0]))
    p = np.maximum.accumulate(p[::-1])[::-1]
    at = np.flatnonzero(r[1:] != r[:-1])
    return ((r[at + 1] - r[at]) * p[at + 1]).sum()


def voc_eval(truth, found, eleven):
    positives = sum((~difficult).sum() for _, difficult in truth.values())
    taken = {image: np.zeros(len(d), bool) for image, (_, d) in truth.items()}
    tp, fp = [], []
    for image, _, box in sorted(found, key=lambda d: -d[1]):
        boxes, difficult = truth[image]
        tp.append(0), fp.append(0)
        best, overlap = -1, -np.inf
        if len(boxes):
            sides = np.maximum(np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]) + 1, 0)
            area = lambda b: (b[..., 2] - b[..., 0] + 1) * (b[..., 3] - b[..., 1] + 1)
            iou = sides.prod(1) / (area(boxes) + area(box) - sides.prod(1))
            best, overlap = iou.argmax(), iou.max()
        if overlap <= 0.5:
            fp[-1] = 1
        elif not difficult[best]:
            (fp if taken[image][best] else tp)[-1] = 1
            taken[image][best] = True
    tp, fp = np.cumsum(tp), np.cumsum(fp)
    return 100 * voc_ap(tp / positives, tp / np.maximum(tp + fp, np.finfo(float).eps), eleven)


with tempfile.TemporaryDirectory() as folder:
    for name in ("xml", "txt", "gt", "pred"):
        os.mkdir(os.path.join(folder, name))
    at = lambda *p: os.path.join(folder, *p)
    classes = ("cat", "dog")
    truth, found = {c: {} for c in classes}, {c: [] for c in classes}
    for i in range(40):
        objects = ""
        for c in classes:
            n = rng.randint(0, 4)
            corner = rng.randint(1, 60, (n, 2))
            boxes, difficult = np.concatenate([corner, corner + rng.randint(5, 40, (n, 2))], 1), rng.rand(n) < 0.2
            truth[c][f"im{i}"] = boxes, difficult
            for b, d in zip(boxes, difficult):
                sides = "".join(f"<{s}>{v}</{s}>" for s, v in zip(("xmin", "ymin", "xmax", "ymax"), b))
                objects += f"<object><name>{c}</name><difficult>{int(d)}</difficult><bndbox>{sides}</bndbox></object>\n"
                for _ in range(rng.randint(0, 3)):
                    found[c].append((f"im{i}", rng.rand(), b + rng.randint(-5, 6, 4)))
        with open(at("xml", f"im{i}.xml"), "w") as f:
            f.write(f"<annotation>\n{objects}</annotation>\n")
    for c in classes:
        with open(at("txt", f"comp4_det_test_{c}.txt"), "w") as f:
            f.writelines(f"{image} {score!r} {' '.join(map(str, box))}\n" for image, score, box in found[c])
    for metric in ("07", "12"):
        ap = diptych("voc-eval", "--gt", at("xml"), "--dt", at("txt"), "--metric", metric)["ap"]
        off = max(abs(ap[c] - voc_eval(truth[c], found[c], metric == "07")) for c in classes)
        report(f"VOC {metric}: average precision of two classes", off < 1e-9, f"off by {off:.1e}")

    pixels = []
    for i in range(6):
        t = rng.randint(0, 5, (40, 50)).astype(np.uint8)
        p = np.where(rng.rand(40, 50) < 0.7, t, rng.randint(0, 5, (40, 50))).astype(np.uint8)
        t[rng.rand(40, 50) < 0.1] = 255
        pixels.append((t, p))
        image = Image.fromarray(t)
        if i % 2:  # palette PNGs too
            image = Image.fromarray(t, mode="P")
            image.putpalette(rng.randint(0, 256, 768).tolist())
        image.save(at("gt", f"{i}.png"))
        Image.fromarray(p).save(at("pred", f"{i}.png"))
    t, p = (np.concatenate([pair[k].ravel() for pair in pixels]) for k in (0, 1))
    t, p = t[t != 255], p[t != 255]
    got = diptych("miou", "--gt", at("gt"), "--pred", at("pred"))
    off = np.abs(np.array(got["iou"]) - 100 * jaccard_score(t, p, average=None)).max()
    report("mIoU: scikit-learn's jaccard_score", off < 1e-9, f"off by {off:.1e}")
    report("mIoU: scikit-learn's confusion_matrix", np.array_equal(np.array(got["confusion"])[:, :-1], confusion_matrix(t, p)))
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
