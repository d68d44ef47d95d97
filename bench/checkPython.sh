#!/usr/bin/env bash
# npm run check:python: what needs Python. Makes its own virtual environment; not part of CI.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${XDG_CACHE_HOME:-$HOME/.cache}/diptych/check-venv
[ -f "$venv/ready" ] || {
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q torch torchvision onnx safetensors numpy
  touch "$venv/ready"
}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for backbone in resnet18 resnet50; do
  node bin/diptych.cjs pretrain photos --data samples --limit 8 --batch-size 4 --epochs 1 --size 32 --out "$out/$backbone" \
    --set backbone.name=$backbone >"$out/$backbone.log" 2>&1 || { cat "$out/$backbone.log"; exit 1; }
done
"$venv/bin/python" bench/python/check.py "$out"
