"""Writes test/fixtures/fcos.safetensors: torchvision's FCOS on fixed numbers, for test/graphs/detection.test.ts.

  python bench/python/detection_fixture.py test/fixtures/fcos.safetensors

Needs torch and torchvision (2.15.0 and 0.29.2 wrote the file in the repository). Weights and maps are not in the file: both sides make them by `drawn`.
"""
import json, struct, sys
from types import SimpleNamespace
import numpy as np, torch
from torch import nn
from torchvision.models import resnet50
from torchvision.models.detection import FCOS
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

CHANNELS, CLASSES, CONVS, HEIGHT, WIDTH = 32, 3, 2, 96, 160
out = {}


def drawn(seed, *shape):
    """-1 ... 1, by the last step of MurmurHash3 on i + 65536·seed."""
    h = (np.arange(np.prod(shape), dtype=np.uint64) + seed * 65536) & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = ((h ^ (h >> shift)) * factor) & 0xFFFFFFFF
    h ^= h >> 16
    return torch.from_numpy((h.astype(np.float64) / 2**31 - 1).astype(np.float32).reshape(shape))


class Body(nn.Module):
    out_channels = CHANNELS


def names(model):
    return [[k, list(v.shape)] for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")]


def detector(backbone, trained, channels, classes, norm):
    body = _resnet_fpn_extractor(backbone(norm_layer=norm), trained, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(channels, channels))
    return FCOS(body, classes)


metadata = {"resnet50": json.dumps(names(detector(resnet50, 3, 256, 91, FrozenBatchNorm2d)))}

# ------------------------------------------------ pyramid, head, losses, gradients
fpn = FeaturePyramidNetwork([8, 12, 16], CHANNELS, LastLevelP6P7(CHANNELS, CHANNELS))
head = FCOSHead(CHANNELS, 1, CLASSES, num_convs=CONVS)
model = FCOS(Body(), CLASSES, head=head)
modules = nn.ModuleDict({"fpn": fpn, "head": head})
parameters = dict(modules.named_parameters())
with torch.no_grad():
    for seed, p in enumerate(parameters.values()):
        p.copy_(drawn(seed, *p.shape) * (0.1 if p.ndim > 1 else 0.5))
metadata["parameters"] = json.dumps([[k, list(p.shape)] for k, p in parameters.items()])
maps = {f"c{3 + i}": drawn(1000 + i, 2, c, HEIGHT >> s, WIDTH >> s) for i, (c, s) in enumerate(((8, 3), (12, 4), (16, 5)))}
pyramid = list(fpn(maps).values())
for i, p in enumerate(pyramid):
    out[f"p{3 + i}"] = p
predicted = head(pyramid)
for k, v in predicted.items():
    out[k] = v
boxes = [
    torch.tensor([[4.0, 6, 40, 50], [10, 10, 34, 42], [50.5, 3.25, 155, 90], [20, 30, 27, 36]]),
    torch.tensor([[0.0, 0, 160, 96], [30, 8, 58, 33]]),
]
labels = [torch.tensor([0, 2, 1, 2]), torch.tensor([1, 0])]
images = ImageList(torch.zeros(2, 3, HEIGHT, WIDTH), [(HEIGHT, WIDTH)] * 2)
anchors = model.anchor_generator(images, pyramid)
counts = [p.shape[2] * p.shape[3] for p in pyramid]


def matched(boxes, anchors, counts):
    """What FCOS.compute_loss hands to its head."""
    seen = []
    spy = SimpleNamespace(center_sampling_radius=1.5, head=SimpleNamespace(compute_loss=lambda t, h, a, m: seen.extend(m)))
    targets = [{"boxes": b} for b in boxes]
    FCOS.compute_loss(spy, targets, None, [a.clone() for a in anchors], counts)
    return torch.stack(seen)


targets = [{"boxes": b, "labels": l} for b, l in zip(boxes, labels)]
losses = model.compute_loss(targets, predicted, anchors, counts)
for k, v in losses.items():
    out[f"loss.{k}"] = v.reshape(1)
sum(losses.values()).backward()
# of each gradient ⟨g, drawn⟩ and ‖g‖, and two of them whole
for seed, (k, p) in enumerate(parameters.items()):
    direction = drawn(2000 + seed, *p.shape).double()
    out[f"gradient.{k}"] = torch.stack([(p.grad.double() * direction).sum(), p.grad.double().norm()])
for k in ("fpn.inner_blocks.0.0.weight", "head.regression_head.bbox_reg.weight"):
    out[f"whole.{k}"] = parameters[k].grad
out["matched"] = matched(boxes, anchors, counts).to(torch.int32)

# ------------------------------------------------ assignment on a larger image: every level has its objects, and one image none
sizes = [(48, 64), (24, 32), (12, 16), (6, 8), (3, 4)]
many = torch.rand(14, 4, generator=torch.Generator().manual_seed(3))
centre, side = many[:, :2] * torch.tensor([512.0, 384]), 12 * 40 ** many[:, 2:]
crowd = torch.cat([centre - side / 2, centre + side / 2], 1)
crowd = torch.stack([crowd[:, 0].clamp(0, 500), crowd[:, 1].clamp(0, 370), crowd[:, 2].clamp(11, 512), crowd[:, 3].clamp(13, 384)], 1)
large = model.anchor_generator(ImageList(torch.zeros(2, 3, 384, 512), [(384, 512)] * 2), [torch.zeros(2, 1, *s) for s in sizes])
out["crowd"] = crowd
out["crowdMatched"] = matched([crowd, torch.zeros(0, 4)], large, [h * w for h, w in sizes]).to(torch.int32)

# ------------------------------------------------ detections of drawn predictions
model.score_thresh, model.topk_candidates, model.detections_per_img = 0.3, 120, 60
total = sum(counts)
raw = {
    "cls_logits": 3 * drawn(3000, 1, total, CLASSES),
    "bbox_regression": torch.relu(3 * drawn(3001, 1, total, 4) + 1),
    "bbox_ctrness": 2 * drawn(3002, 1, total, 1),
}
split = {k: list(v.split(counts, 1)) for k, v in raw.items()}
(found,) = model.postprocess_detections(split, [list(anchors[0].split(counts))], [(HEIGHT, WIDTH)])
out["detected.boxes"], out["detected.scores"], out["detected.labels"] = found["boxes"], found["scores"], found["labels"]
out["decoded"] = model.box_coder.decode(raw["bbox_regression"], anchors[0][None])

types = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64", torch.int32: "I32"}
header, at = {"__metadata__": metadata}, 0
for k, v in out.items():
    size = v.numel() * v.element_size()
    header[k] = {"dtype": types[v.dtype], "shape": list(v.shape), "data_offsets": [at, at + size]}
    at += size
text = json.dumps(header, separators=(",", ":")).encode()
text += b" " * (-len(text) % 8)
with open(sys.argv[1], "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + b"".join(v.detach().contiguous().numpy().tobytes() for v in out.values()))
