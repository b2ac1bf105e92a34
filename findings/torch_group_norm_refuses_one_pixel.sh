#!/usr/bin/env bash
# PyTorch 2.13.0: GroupNorm with one channel a group refuses a feature map of one pixel, in evaluation too, and the error
# speaks of training.
#
# A group norm has no running statistics, so evaluation and training are the same arithmetic: with one value a group the
# result is the bias. torch.nn.GroupNorm(32, 32).eval() on [1, 32, 1, 1] raises "Expected more than 1 value per channel
# when training"; [2, 32, 1, 1] passes and gives the bias, although each group there has one value too. So a network
# that pools to one pixel runs on a batch and not on a single image.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch

norm = torch.nn.GroupNorm(32, 32).eval()
try:
    norm(torch.ones(1, 32, 1, 1))
    raise SystemExit("this has changed: a single image passes")
except ValueError as error:
    print("torch", torch.__version__, "one image:", error)
    assert "when training" in str(error), "this has changed"
two = norm(torch.ones(2, 32, 1, 1))
print("two images:", two.abs().max().item())
assert two.abs().max().item() == 0.0, "this has changed"
PYTHON
