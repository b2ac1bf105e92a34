#!/usr/bin/env bash
# PyTorch 2.13.0, torch.onnx.export: scatter_reduce with reduce="mean" exports without a word, and the graph gives the
# last value of each group, not the mean.
#
# The mean of all features of one object, with the objects' numbers as index, is one scatter_reduce. ONNX's
# ScatterElements knows add, mul, max and min; "sum", "prod", "amax" and "amin" become those and are right, "mean"
# becomes "none": each value overwrites the one before. Shape and scale are those of a mean, so nothing behind it looks
# broken. With ONNX Runtime the groups (1, 3) and (2, 4, 9) give 3 and 9 in place of 2 and 5. Write the mean as two
# sums, of the values and of ones, and divide.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
"$folder/venv/bin/python" -W ignore::FutureWarning - "$folder/scatter.onnx" <<'PYTHON'
import logging
import sys

import onnxruntime
import torch

logging.disable(logging.WARNING)


class Groups(torch.nn.Module):
    def __init__(self, reduce):
        super().__init__()
        self.reduce = reduce

    def forward(self, group, values):
        return torch.zeros(2).scatter_reduce(0, group, values, self.reduce, include_self=False)


class MeanOfSums(torch.nn.Module):
    def forward(self, group, values):
        sums, counts = (torch.zeros(2).index_add(0, group, given) for given in (values, torch.ones_like(values)))
        return sums / counts


group, values = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([1.0, 3.0, 2.0, 4.0, 9.0])
path, seen = sys.argv[1], {}
print("torch", torch.__version__, "onnxruntime", onnxruntime.__version__)
for name, network in {"sum": Groups("sum"), "mean": Groups("mean"), "sums divided": MeanOfSums()}.items():
    torch.onnx.export(network.eval(), (group, values), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = (entry.name for entry in session.get_inputs())
    (got,) = session.run(None, {entry: given.numpy() for entry, given in zip(names, (group, values))})
    seen[name] = network(group, values).tolist(), got.tolist()
    print(f"{name}: torch {seen[name][0]}, graph {seen[name][1]}")
means = [2.0, 5.0]
if seen != {"sum": ([4.0, 15.0],) * 2, "mean": (means, [3.0, 9.0]), "sums divided": (means, means)}:
    raise SystemExit("this has changed")
PYTHON
