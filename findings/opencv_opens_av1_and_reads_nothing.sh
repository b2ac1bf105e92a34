#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: an AV1 video opens, tells its size and number of frames, and gives no frame.
#
# The wheel's FFmpeg knows AV1 only through hardware, which the wheel does not use, so isOpened() is True, the frame
# count is right, and read() is False from the first frame on: the usual loop ends at once, over an empty video, with no
# exception (opencv-python-headless 4.12.0.88 does the same). Never take the end of the loop for the end of the video:
# compare with the count, or read with PyAV, whose wheel brings the decoder dav1d (here all 10 frames).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install opencv-python-headless==5.0.0.93 av==18.1.0 numpy==2.4.6
SVT_LOG=1 OPENCV_FFMPEG_LOGLEVEL=-8 "$folder/venv/bin/python" - "$folder/street.mp4" <<'PYTHON'
import sys

import av
import cv2
import numpy as np

path = sys.argv[1]
with av.open(path, "w") as container:
    stream = container.add_stream("libsvtav1", rate=10)
    stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
    for k in range(10):
        image = np.full((96, 128, 3), 20 * k, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
    container.mux(stream.encode())

with av.open(path) as container:
    by_pyav = sum(1 for _ in container.decode(video=0))
capture = cv2.VideoCapture(path)
opened, stated, by_opencv = capture.isOpened(), int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0
while capture.read()[0]:
    by_opencv += 1
print("av", av.__version__, "reads", by_pyav, "frames")
print("opencv", cv2.__version__, "opened:", opened, "states", stated, "frames, reads", by_opencv)
if (by_pyav, opened, stated, by_opencv) != (10, True, 10, 0):
    raise SystemExit("this has changed")
PYTHON
