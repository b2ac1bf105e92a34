#!/usr/bin/env bash
# PyTorch 2.13.0 exported to ONNX Runtime 1.32.0: logsigmoid of a logit of -18 or less is -inf.
#
# torch.nn.functional.logsigmoid(-18) is -18, exact however small the score. The exporter writes it as Log(Sigmoid),
# and ONNX Runtime's Sigmoid on a CPU is an approximation that ends: at -15 it is 3.6e-7 in place of 3.1e-7, at -18 and
# below exactly 0 (1.5e-8 is right, and far from the least that a float32 holds). Logits of -18 are ordinary for what is
# surely background, and one -inf among log-scores is an infinite sum or cost, and times 0 it is NaN. Thresholds on the
# score itself are not affected. Write logsigmoid(x) as -softplus(-x), which both give alike, and compare exported
# graphs on large logits too. Seen on x86-64 with AVX2.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
"$folder/venv/bin/python" -W ignore::FutureWarning - "$folder/score.onnx" <<'PYTHON'
import logging
import sys

import numpy as np
import onnxruntime
import torch

logging.disable(logging.WARNING)


class Scores(torch.nn.Module):
    def forward(self, logits):
        by_softplus = -torch.nn.functional.softplus(-logits)
        return logits.sigmoid(), torch.nn.functional.logsigmoid(logits), by_softplus


logits = torch.tensor([-5.0, -10.0, -15.0, -18.0, -20.0, -40.0])
path, scores = sys.argv[1], Scores().eval()
torch.onnx.export(scores, (logits,), path, dynamo=True, verbose=False)
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
got = session.run(None, {session.get_inputs()[0].name: logits.numpy()})
want = [result.numpy() for result in scores(logits)]
print("torch", torch.__version__, "onnxruntime", onnxruntime.__version__, "logits", logits.tolist())
for name, right, seen in zip(("sigmoid", "logsigmoid", "-softplus(-x)"), want, got):
    print(f"{name}: torch {right}, graph {seen}")
if not np.allclose(want[1], logits, atol=0.01) or not np.allclose(want[2], got[2]):
    raise SystemExit("this has changed: PyTorch, or softplus, is not right")
if np.allclose(want[1], got[1], atol=1.0):
    raise SystemExit("this has changed")
PYTHON
