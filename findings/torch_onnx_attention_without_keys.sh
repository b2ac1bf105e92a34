#!/usr/bin/env bash
# PyTorch 2.13.0, torch.onnx.export: a query that may look at no key gets 0 in PyTorch, and in the exported graph the
# mean of all values or NaN at opset 20, and 0 at opset 23.
#
# scaled_dot_product_attention gives 0 for a row of the mask that allows nothing. At opset 20 the same call is written
# out as a softmax. With a boolean mask its row gives equal weights, so the query, which was to see nothing, sees
# everything, as finite numbers that no check for NaN finds; with a mask of 0 and -inf it gives NaN. At opset 23 it
# is one Attention, and 0. Such rows are everyday in video: masked attention where a mask is still empty, a frame
# without objects, padding. Allow at least one key in every row (Mask2Former opens the whole row), or export at opset
# 23, and keep such a row in the comparison of network and graph: all other rows agree to 1e-6.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
"$folder/venv/bin/python" -W ignore::FutureWarning - "$folder/attention.onnx" <<'PYTHON'
import logging
import sys

import numpy as np
import onnxruntime
import torch

logging.disable(logging.WARNING)


class Attention(torch.nn.Module):
    def forward(self, query, key, value, mask):
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)


random = torch.Generator().manual_seed(0)
query, key, value = (torch.randn(1, 1, 4, 8, generator=random) for _ in range(3))
allowed = torch.ones(4, 4, dtype=torch.bool)
allowed[1] = False
masks = {"boolean": allowed, "-inf": torch.zeros(4, 4).masked_fill(~allowed, -torch.inf)}
mean = value[0, 0].mean(0).numpy()
path, attention, seen = sys.argv[1], Attention().eval(), {}
print("torch", torch.__version__, "onnxruntime", onnxruntime.__version__)
for kind, mask in masks.items():
    inputs = query, key, value, mask
    want = attention(*inputs)[0, 0].numpy()
    for opset in (20, 23):
        torch.onnx.export(attention, inputs, path, dynamo=True, opset_version=opset, verbose=False)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = (entry.name for entry in session.get_inputs())
        got = session.run(None, {name: given.numpy() for name, given in zip(names, inputs)})[0][0, 0]
        others = np.abs(np.delete(got - want, 1, axis=0)).max()
        row = got[1]
        seen[kind, opset] = "NaN" if np.isnan(row).all() else "0" if not row.any() else str(row)
        if np.allclose(row, mean, atol=1e-6):
            seen[kind, opset] = "mean"
        print(f"{kind} mask, opset {opset}: torch {want[1].max()}, graph {seen[kind, opset]}, other rows {others:.0e}")
        if want[1].any() or others > 1e-5:
            raise SystemExit("this has changed")
if list(seen.values()) != ["mean", "0", "NaN", "0"]:
    raise SystemExit("this has changed")
PYTHON
