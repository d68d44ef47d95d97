"""The peer of `npm run bench -- segmentation`: trains what plan.json says from initial.safetensors, in torch eager, and prints one JSON line.

  python bench/python/segmentation.py FOLDER
"""
import json, os, resource, struct, sys, time
import numpy as np, torch
from PIL import Image
from segmenter import Segmenter, loss_of, resized

torch.set_num_threads(1)
folder = sys.argv[1]
plan = json.load(open(os.path.join(folder, "plan.json")))
o = plan["options"]
height, width = o["crop"]


def tensors(path):
    raw = open(path, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    entries = json.loads(raw[8 : 8 + n])
    at = lambda e: np.frombuffer(raw[8 + n + e["data_offsets"][0] : 8 + n + e["data_offsets"][1]], np.float32).reshape(e["shape"])
    return {k: torch.from_numpy(at(e).copy()) for k, e in entries.items() if k != "__metadata__"}


def image_of(path):
    x = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None].float()
    return torch.nn.functional.interpolate(x, size=(height, width), mode="bilinear", antialias=True)[0] / 255


def labels_of(path):
    head, name = os.path.split(path)
    y = np.array(Image.open(os.path.join(head + "annot", os.path.splitext(name)[0] + ".png"))).astype(np.int64)
    y[np.isin(y, o["ignore"])] = 255
    return torch.from_numpy(y)


def nearest(y):
    rows = ((np.arange(height) + 0.5) * y.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * y.shape[1] / width).astype(int)
    return y[rows][:, columns]


def flipped(x, flip):
    return x.flip(-1) if flip else x


model = Segmenter(o["channels"], plan["classes"], o["outputStride"], o["convs"], o["dilation"], o["auxiliary"] > 0)
missing, unexpected = model.load_state_dict(tensors(os.path.join(folder, "initial.safetensors")), strict=False)
assert not unexpected and all(k.endswith("num_batches_tracked") for k in missing), (missing, unexpected)
optimizer = torch.optim.SGD(model.parameters(), lr=0, momentum=0.9, weight_decay=o["weightDecay"])
used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
for s, step in enumerate(plan["steps"]):
    if s == plan["stepsPerEpoch"]:
        began, cpu = time.perf_counter(), used()
    paths = [plan["train"][i] for i in step["indices"]]
    image = torch.stack([flipped(image_of(p), f) for p, f in zip(paths, step["flips"])])
    labels = torch.stack([flipped(nearest(labels_of(p)), f) for p, f in zip(paths, step["flips"])])
    for group in optimizer.param_groups:
        group["lr"] = step["lr"]
    optimizer.zero_grad()
    loss = loss_of(model, image, labels, o["auxiliary"])
    loss.backward()
    optimizer.step()
    if (s + 1) % plan["stepsPerEpoch"] == 0:
        print(f"epoch {(s + 1) // plan['stepsPerEpoch']}: loss {loss.item():.4f}", file=sys.stderr)
wall, cpu = time.perf_counter() - began, used() - cpu
images = (len(plan["steps"]) - plan["stepsPerEpoch"]) * o["batchSize"]

model.eval()
n = plan["classes"]
confusion = np.zeros((n, n), np.int64)
with torch.no_grad():
    for path in plan["test"]:
        truth = labels_of(path)
        logits = resized(model(image_of(path)[None])[0], (height, width))
        found = resized(logits, truth.shape).argmax(1)[0]
        counted = truth != 255
        confusion += np.bincount((truth * n + found)[counted].numpy(), minlength=n * n).reshape(n, n)
both = np.diag(confusion)
union = confusion.sum(0) + confusion.sum(1) - both
line = {
    "side": "torch " + torch.__version__, "seed": o["seed"],
    "mIoU": 100 * float(np.mean(both[union > 0] / union[union > 0])), "pixelAccuracy": 100 * float(both.sum() / confusion.sum()),
    "img_s": images / wall, "img_cpu_s": images / cpu,
    "rss_mb_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
}
print(json.dumps(line), flush=True)
