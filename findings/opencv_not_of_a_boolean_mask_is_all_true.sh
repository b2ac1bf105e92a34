#!/usr/bin/env bash
# OpenCV 5.0.0: bitwise_not of a mask of NumPy booleans is True everywhere.
#
# OpenCV 4 refuses boolean arrays; OpenCV 5 takes them (its new CV_Bool), returns booleans, and flips all eight bits of
# each: True (1) becomes 254 and False (0) becomes 255, and NumPy reads any byte that is not 0 as True. So the
# background of a mask, asked for by bitwise_not, is the whole image, while bitwise_and, flip and countNonZero of the
# same masks are right. ~mask, or a mask as uint8 with 255, is right too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install opencv-python-headless==5.0.0.93 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import cv2
import numpy as np

mask = np.array([[True, True, False]])
background = cv2.bitwise_not(mask)
print("opencv", cv2.__version__, "numpy", np.__version__)
print("mask", mask.tolist(), "bitwise_not", background.tolist(), "bytes", background.view(np.uint8).tolist())
print("~mask", (~mask).tolist(), "bitwise_and with itself", cv2.bitwise_and(mask, mask).tolist())
if background.dtype != bool or not background.all() or not np.array_equal(cv2.bitwise_and(mask, mask), mask):
    raise SystemExit("this has changed")
PYTHON
