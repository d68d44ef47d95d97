"""onnx.checker on encoder.onnx, and strict loading of encoder.safetensors into torchvision, with equal features."""
import json, sys
import numpy as np, onnx, torch, torchvision
from onnx.reference import ReferenceEvaluator
from safetensors.torch import load_file

passed = failed = 0
def report(name, ok, detail=""):
    global passed, failed
    passed, failed = passed + ok, failed + (not ok)
    print(("ok    " if ok else "FAILED"), name, detail)

for name in ("resnet18", "resnet50"):
    folder = f"{sys.argv[1]}/{name}"
    model = onnx.load(f"{folder}/encoder.onnx")
    onnx.checker.check_model(model, full_check=True)
    report(f"{name}: onnx.checker, IR {model.ir_version}, opset {model.opset_import[0].version}", True)
    net = getattr(torchvision.models, name)()
    net.fc = torch.nn.Identity()
    weights = load_file(f"{folder}/encoder.safetensors")
    missing = net.load_state_dict({**{k: v for k, v in net.state_dict().items() if k.endswith("num_batches_tracked")}, **weights}, strict=True)
    report(f"{name}: strict load_state_dict of {len(weights)} tensors", not missing.missing_keys and not missing.unexpected_keys)
    info = json.loads(next(p.value for p in model.metadata_props if p.key == "diptych"))
    image = np.random.RandomState(0).rand(2, 3, 40, 48).astype(np.float32)
    with torch.no_grad():
        mean, std = (torch.tensor(info[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
        want = net.eval()((torch.from_numpy(image) - mean) / std).numpy()
    got = ReferenceEvaluator(model).run(["features"], {"image": image})[0]
    off = float(np.abs(got - want).max() / (1 + np.abs(want).max()))
    report(f"{name}: features equal torchvision's", off < 1e-5, f"off by {off:.1e}")
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
