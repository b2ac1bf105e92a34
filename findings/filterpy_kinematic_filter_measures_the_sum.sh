#!/usr/bin/env bash
# filterpy 2.0.0: kinematic_kf in two or more dimensions measures the sum of the coordinates, not each of them.
#
# Its documentation says that the measurement is the position, "one per dimension". For dim=2 its H is [[1, 0, 1, 0]]:
# one number, x + y, and a measurement of two numbers is refused. With dim_z=2, the next thing to try, H has that row
# twice: measurements are taken, no error comes, and a point that stands at (30, 5) is put at (8.75, 8.75), where both
# rows are as nearly right as they can be. A tracker on it puts every object on the diagonal. Build
# KalmanFilter(dim_x=4, dim_z=2) and set F and H, or set H of the filter that kinematic_kf gives.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install filterpy==2.0.0 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PYTHON'
import filterpy
import numpy as np
from filterpy.common import kinematic_kf

measured = np.array([30.0, 5.0])
print("filterpy", filterpy.__version__)
one = kinematic_kf(dim=2, order=1)
print("dim_z=1: H", one.H.tolist())
try:
    one.update(measured)
    raise SystemExit("this has changed: a measurement of two numbers is taken")
except ValueError as error:
    print("dim_z=1, a measurement of two numbers:", error)
two = kinematic_kf(dim=2, order=1, dim_z=2)
for _ in range(200):
    two.predict()
    two.update(measured)
position = two.x.ravel()[[0, 2]]
print("dim_z=2: H", two.H.tolist(), "measured 200 times", measured.tolist(), "estimate", position.round(3).tolist())
if not np.allclose(position, measured.mean() / 2, atol=1e-3):
    raise SystemExit("this has changed")
PYTHON
