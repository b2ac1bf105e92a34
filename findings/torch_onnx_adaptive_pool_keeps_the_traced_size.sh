#!/usr/bin/env bash
# PyTorch 2.13.0, torch.onnx.export: adaptive_avg_pool2d over an image of dynamic size exports without a word, and the
# graph is right at the traced size alone.
#
# Exported from 12 x 12 with height and width declared dynamic, adaptive_avg_pool2d(x, 2) becomes AveragePool with a
# kernel of 6 x 6, while the graph's input says that any size will do. ONNX Runtime then gives 4 x 4 cells for 24 x 24
# pixels, and for 13 x 17 the right number of cells with wrong values (rows and columns at the border are left out).
# Pyramid pooling and many small heads are built on this operator; interpolate(mode="area") and adaptive_max_pool2d go
# wrong alike. With an output of 1 it becomes a mean and is right. Compare an exported graph with its network at a
# second size, also one that the cells do not divide; export a graph for each size, or write the pooling as products
# with matrices made from the size.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
"$folder/venv/bin/python" -W ignore::FutureWarning - "$folder/pool.onnx" <<'PYTHON'
import logging
import sys

import numpy as np
import onnx
import onnxruntime
import torch

logging.disable(logging.WARNING)


class Pool(torch.nn.Module):
    def forward(self, image):
        return torch.nn.functional.adaptive_avg_pool2d(image, 2)


def picture(height, width):
    return torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)


path, pool = sys.argv[1], Pool().eval()
free = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
torch.onnx.export(pool, (picture(12, 12),), path, dynamo=True, dynamic_shapes=(free,), verbose=False)
graph = onnx.load(path).graph
print("torch", torch.__version__, "onnxruntime", onnxruntime.__version__)
print("input", [size.dim_param or size.dim_value for size in graph.input[0].type.tensor_type.shape.dim])
print("nodes", [node.op_type for node in graph.node])
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
right = {}
for size in ((12, 12), (24, 24), (13, 17)):
    want = pool(picture(*size)).numpy()
    (got,) = session.run(None, {session.get_inputs()[0].name: picture(*size).numpy()})
    right[size] = want.shape == got.shape and bool(np.allclose(want, got))
    print(size, "torch", want[0, 0].tolist(), "graph", got[0, 0].tolist(), "right" if right[size] else "wrong")
if list(right.values()) != [True, False, False]:
    raise SystemExit("this has changed")
PYTHON
