#!/usr/bin/env bash
# NumPy 2.4.6: np.concatenate of one structured array with padding gives rows without the padding.
#
# A sensor_msgs/PointCloud2 states a point_step, say 24 bytes for x, y, z, instance, score (4 bytes each) and label (1
# byte). Whoever builds it from parts with np.concatenate gets rows of 21 bytes, even from a single part, while dtype
# names and offsets read alike at a glance: every point after the first is torn. np.zeros(total, dtype) and slices keep
# the padding. Seen on 2026-11-30: itemsize 24 goes in, 21 comes out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np

point = np.dtype(
    {
        "names": ["x", "y", "z", "instance", "score", "label"],
        "formats": ["<f4", "<f4", "<f4", "<u4", "<f4", "u1"],
        "offsets": [0, 4, 8, 12, 16, 20],
        "itemsize": 24,
    }
)
part = np.zeros(3, point)
joined = np.concatenate([part])
print("numpy", np.__version__, "itemsize before", part.dtype.itemsize, "after", joined.dtype.itemsize)
assert (part.dtype.itemsize, joined.dtype.itemsize) == (24, 21), "this has changed"
PYTHON
