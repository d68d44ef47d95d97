"""onnx.checker on encoder.onnx; exported weights loaded as `diptych export` says, with equal features; names against MoCo's converter."""
import json, pathlib, sys
import numpy as np, onnx, torch, torchvision
from onnx.reference import ReferenceEvaluator
from safetensors.torch import load_file

passed = failed = 0
def report(name, ok, detail=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print(("ok    " if ok else "FAILED"), name, detail, flush=True)

def moco_converted(name):
    """detection/convert-pretrain-to-detectron2.py of facebookresearch/moco"""
    if "layer" not in name:
        name = "stem." + name
    for t in [1, 2, 3, 4]:
        name = name.replace(f"layer{t}", f"res{t + 1}")
    for t in [1, 2, 3]:
        name = name.replace(f"bn{t}", f"conv{t}.norm")
    return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")

def same(got, want):
    return list(got) == list(want) and all(torch.equal(got[k], want[k]) for k in want)

for folder in sorted(p.parent for p in pathlib.Path(sys.argv[1]).glob("*/encoder.onnx")):
    name = folder.name
    model = onnx.load(folder / "encoder.onnx")
    onnx.checker.check_model(model, full_check=True)
    report(f"{name}: onnx.checker, IR {model.ir_version}, opset {model.opset_import[0].version}", True)
    info = json.loads(next(p.value for p in model.metadata_props if p.key == "diptych"))
    side = (32, 32) if name.startswith("vit") else (40, 48)
    image = np.random.RandomState(0).rand(2, 3, *side).astype(np.float32)
    mean, std = (torch.tensor(info[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    got = ReferenceEvaluator(model).run(["features"], {"image": image})[0]

    for keys in ("torchvision", "timm"):
        snippet = folder / f"{keys}.txt"
        if not snippet.exists():
            continue
        scope = {}
        exec(snippet.read_text(), scope)  # builds net and loads the file, strict=True
        with torch.no_grad():
            want = scope["net"].eval()((torch.from_numpy(image) - mean) / std).numpy()
        off = float(np.abs(got - want).max() / (1 + np.abs(want).max()))
        report(f"{name}: {keys} loads strictly and has our features", off < 1e-5, f"off by {off:.1e}")

    if (folder / "detectron2.pth").exists():
        ours = torch.load(folder / "torchvision.pth", weights_only=True)
        d2 = torch.load(folder / "detectron2.pth", weights_only=True)
        report(f"{name}: detectron2's dictionary equals the output of MoCo's converter",
               same(d2["model"], {moco_converted(k): v for k, v in ours.items()}) and d2["matching_heuristics"] is True)
        mm = torch.load(folder / "mmdet.pth", weights_only=True)["state_dict"]
        report(f"{name}: mmdet's dictionary is torchvision's below backbone.", same(mm, {f"backbone.{k}": v for k, v in ours.items()}))
        full = getattr(torchvision.models, name)().state_dict()
        report(f"{name}: as many tensors as torchvision's own, num_batches_tracked included",
               set(ours) == {k for k in full if not k.startswith("fc.")}, f"{len(ours)}")
        weights = load_file(folder / "encoder.safetensors")
        report(f"{name}: encoder.safetensors holds the same weights", all(torch.equal(weights[k], ours[k]) for k in weights))
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
