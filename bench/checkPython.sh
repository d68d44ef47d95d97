#!/usr/bin/env bash
# npm run check:python: what needs Python; not part of CI. DIPTYCH_PYTHON, or a virtual environment of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${DIPTYCH_PYTHON:-}
if [ -z "$python" ]; then
  venv=${XDG_CACHE_HOME:-$HOME/.cache}/diptych/check-venv
  [ -f "$venv/ready" ] || {
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q torch torchvision timm onnx safetensors numpy scikit-learn
    touch "$venv/ready"
  }
  python=$venv/bin/python
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
diptych() {
  node bin/diptych.cjs "$@" 2>"$out/log" || { cat "$out/log"; exit 1; }
}
# NAME KEYS SETTING…: a short run, then one file for each toolkit with what export prints beside it
encoder() {
  local name=$1 keys=$2
  shift 2
  diptych pretrain photos --data samples --limit 8 --batch-size 4 --epochs 1 --size 32 --out "$out/$name" "${@/#/--set=}" >/dev/null
  for k in $keys; do
    diptych export "$out/$name" --format pth --keys "$k" --out "$out/$name/$k.pth" >"$out/$name/$k.txt"
  done
}
resnets="torchvision timm detectron2 mmdet"
encoder resnet18 "$resnets" backbone.name=resnet18
encoder resnet50 "$resnets" backbone.name=resnet50
encoder resnet18-cifar "torchvision timm" backbone.name=resnet18 backbone.stem=cifar
encoder vit "timm" backbone.name=vitTiny backbone.patchSize=8 backbone.embedDim=48 backbone.depth=2
encoder vit-qkv-bias "timm" backbone.name=vitTiny backbone.patchSize=8 backbone.embedDim=48 backbone.depth=2 backbone.qkvBias=true
node dist/bench/judgesCheck.js "$out"
"$python" bench/python/check_judges.py "$out"
"$python" bench/python/check.py "$out"
"$python" bench/python/judges.py bin/diptych.cjs
