"""The peer of `npm run bench -- detection`: trains torchvision's FCOS as plan.json says from initial.safetensors, scores it with pycocotools, and
prints one JSON line.

  python bench/python/detection.py FOLDER
"""
import contextlib, io, json, os, resource, struct, sys, time
import numpy as np, torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import FCOS
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

torch.set_num_threads(1)
folder = sys.argv[1]
plan = json.load(open(os.path.join(folder, "plan.json")))
o = plan["options"]


def tensors(name):
    raw = open(os.path.join(folder, name), "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    types = {"F32": np.float32, "U8": np.uint8}
    out = {}
    for k, e in json.loads(raw[8 : 8 + n]).items():
        at, end = e["data_offsets"]
        out[k] = torch.from_numpy(np.frombuffer(raw[8 + n + at : 8 + n + end], types[e["dtype"]]).reshape(e["shape"]).copy())
    return out


channels = o["channels"]
body = _resnet_fpn_extractor(resnet18(norm_layer=nn.BatchNorm2d), 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(channels, channels))
for module, width in zip((body.fpn.inner_blocks, body.fpn.layer_blocks), (None, channels)):
    for i, c in enumerate((128, 256, 512)):
        module[i][0] = nn.Conv2d(width or c, channels, 1 if width is None else 3, padding=0 if width is None else 1)
body.out_channels = channels
model = FCOS(
    body, plan["classes"], head=FCOSHead(channels, 1, plan["classes"], num_convs=o["convs"]),
    min_size=o["height"], max_size=o["width"], image_mean=plan["mean"], image_std=plan["std"],
    score_thresh=o["scoreThreshold"], nms_thresh=o["nmsThreshold"], topk_candidates=o["candidates"], detections_per_img=o["maxDetections"],
)
missing, unexpected = model.load_state_dict(tensors("initial.safetensors"), strict=False)
assert not unexpected and all(k.endswith("num_batches_tracked") for k in missing), (missing, unexpected)
images = tensors("images.safetensors")


def example(i, flip):
    x = images["train"][i].float() / 255
    boxes = torch.tensor([b["box"] for b in plan["objects"][i]])
    if flip:
        x, boxes = x.flip(-1), torch.stack([o["width"] - boxes[:, 2], boxes[:, 1], o["width"] - boxes[:, 0], boxes[:, 3]], 1)
    return x, {"boxes": boxes, "labels": torch.tensor([b["label"] for b in plan["objects"][i]])}


optimizer = torch.optim.SGD(model.parameters(), lr=0, momentum=0.9, weight_decay=o["weightDecay"])
used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
for s, step in enumerate(plan["steps"]):
    if s == plan["stepsPerEpoch"]:
        began, cpu = time.perf_counter(), used()
    seen, targets = zip(*(example(i, f) for i, f in zip(step["indices"], step["flips"])))
    for group in optimizer.param_groups:
        group["lr"] = step["lr"]
    optimizer.zero_grad()
    losses = model(list(seen), list(targets))
    loss = sum(losses.values())
    loss.backward()
    optimizer.step()
    if (s + 1) % plan["stepsPerEpoch"] == 0:
        parts = " + ".join(f"{losses[k].item():.3f}" for k in ("classification", "bbox_regression", "bbox_ctrness"))
        print(f"epoch {(s + 1) // plan['stepsPerEpoch']}: loss {loss.item():.3f} = {parts}", file=sys.stderr, flush=True)
wall, cpu = time.perf_counter() - began, used() - cpu
count = (len(plan["steps"]) - plan["stepsPerEpoch"]) * o["batchSize"]

model.eval()
truth = json.load(open(os.path.join(folder, "truth.json")))
results = []
with torch.no_grad():
    for x, image in zip(images["test"], truth["images"]):
        (found,) = model([x.float() / 255])
        back = torch.tensor([image["width"] / o["width"], image["height"] / o["height"]] * 2)
        for (x1, y1, x2, y2), score, label in zip((found["boxes"] * back).tolist(), found["scores"].tolist(), found["labels"].tolist()):
            results.append({"image_id": image["id"], "category_id": truth["categories"][label]["id"], "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score})
with contextlib.redirect_stdout(io.StringIO()):
    gt = COCO(os.path.join(folder, "truth.json"))
    e = COCOeval(gt, gt.loadRes(results), "bbox")
    e.evaluate()
    e.accumulate()
    e.summarize()
line = {
    "side": "torch " + torch.__version__, "seed": o["seed"],
    "AP": 100 * e.stats[0], "AP50": 100 * e.stats[1], "AP75": 100 * e.stats[2],
    "img_s": count / wall, "img_cpu_s": count / cpu,
    "rss_mb_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
}
print(json.dumps(line), flush=True)
