#!/usr/bin/env bash
# OpenCV 5.0.0: arrays of int64 and uint64 are cast to int32 on the way in, and two objects become one.
#
# OpenCV 5 has 64-bit integer types (cv2.CV_64S, cv2.CV_64U), and takes uint32 as it is, but its Python binding still
# turns int64 and uint64 into int32, keeping the low 32 bits and saying nothing: a label image with the ids 5 and
# 2**32 + 5 comes back from cv2.resize, flip or rotate as 5 and 5. NumPy's own integers are int64, and track ids are
# often 64 bits wide (a time, a hash, category * 2**32 + instance). Number the objects of one image from 1, move that
# image as int32 or uint16, and look the ids up afterwards; or move labels by NumPy's indexing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install opencv-python-headless==5.0.0.93 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import cv2
import numpy as np

print("opencv", cv2.__version__, "numpy", np.__version__, "has 64-bit integers:", hasattr(cv2, "CV_64S"))
for kind in (np.int64, np.uint64):
    labels = np.array([[5, 2**32 + 5]], kind)
    larger = cv2.resize(labels, None, fx=2, fy=1, interpolation=cv2.INTER_NEAREST)
    print(labels.dtype, labels.tolist(), "becomes", larger.dtype, larger.tolist())
    if larger.dtype != np.int32 or larger.tolist() != [[5, 5, 5, 5]]:
        raise SystemExit("this has changed")
PYTHON
