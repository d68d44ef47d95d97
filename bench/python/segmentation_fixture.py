"""Writes test/fixtures/segmentation.safetensors: torchvision's dilated ResNet-18 with an FCN head on fixed numbers, for test/graphs/segmentation.test.ts.

  python bench/python/segmentation_fixture.py test/fixtures/segmentation.safetensors

Needs torch and torchvision (2.15.0 and 0.29.2 wrote the file in the repository). Weights, image and masks are not in the file: both sides make them by `wave`.
"""
import json, struct, sys
import numpy as np, torch
from segmenter import Segmenter, loss_of, resized

CHANNELS, CLASSES, HEIGHT, WIDTH = 8, 4, 45, 52


def wave(s, *shape):
    """flat index i -> sin(s + 1.3 i + 0.07 i²)"""
    i = np.arange(np.prod(shape, dtype=np.int64), dtype=np.float64)
    return torch.from_numpy(np.sin(s + 1.3 * i + 0.07 * i * i).reshape(shape))


def start(name, index, shape):
    """A weight matrix of waves that keep the size of what they see; norms near 1 and 0."""
    if len(shape) > 1:
        return wave(index, *shape) * (4 / np.prod(shape[1:])) ** 0.5
    return (1 if name.endswith(("weight", "running_var")) else 0) + 0.3 * wave(index, *shape)


torch.set_default_dtype(torch.float64)
out = {}
images, labels = 0.5 + 0.5 * wave(1, 2, 3, HEIGHT, WIDTH), torch.from_numpy(np.fromfunction(lambda n, y, x: (y // 7 + x // 5 + n) % (CLASSES + 1), (2, HEIGHT, WIDTH), dtype=np.int64))
labels[labels == CLASSES] = 255
masks = [1 + wave(2, 2, CHANNELS, 1, 1), 1 + wave(3, 2, CHANNELS // 2, 1, 1)]
for stride, dilation, align in ((8, 1, False), (16, 3, True)):
    model = Segmenter(CHANNELS, CLASSES, stride, dilation=dilation)
    tensors = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    with torch.no_grad():
        for index, (name, v) in enumerate(sorted(tensors.items())):
            v.copy_(start(name, index, v.shape))
    with torch.no_grad():
        model.eval()
        logits, _ = model(images[:1])
        out[f"{stride}.full"] = resized(logits, (HEIGHT, WIDTH), align)
    model.train()
    loss = loss_of(model, images, labels, 0.4, masks, align)
    loss.backward()
    out[f"{stride}.loss"] = loss.detach()
    gradients = {k: p.grad for k, p in sorted(model.named_parameters())}
    out[f"{stride}.norms"] = torch.stack([g.norm() for g in gradients.values()])
    for name in ("backbone.conv1.weight", "backbone.layer4.1.bn1.weight", "decode_head.convs.0.bn.bias", "decode_head.conv_seg.weight", "auxiliary_head.convs.0.bn.weight"):
        out[f"{stride}.{name}"] = gradients[name]

header, at = {}, 0
arrays = {k: np.ascontiguousarray(v.numpy(), dtype=np.float32) for k, v in out.items()}
for name, a in arrays.items():
    header[name] = {"dtype": "F32", "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
    at += a.nbytes
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(sys.argv[1], "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text)
    for a in arrays.values():
        f.write(a.tobytes())
