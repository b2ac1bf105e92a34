#!/usr/bin/env bash
# rclpy 9.1.2 (ROS 2 Kilted), its Python messages: Float64(data=3) is published as 5e-324 or the like, not as 3.0.
#
# Python's int stands for a float almost everywhere, and the message itself shows 3, so it looks right in the node that
# publishes. Types are looked at only with ROS_PYTHON_CHECK_FIELDS=1 in the environment, which raises an error; without
# it, the int is read as if it were a float. A threshold, a rate or a position that happens to be whole arrives as
# nearly 0. Write 3.0, or float(value) wherever a value comes from a file or a command line, and run tests with the
# checks on.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install ros-kilted-rclpy==9.1.2 ros-kilted-std-msgs==5.5.1 \
  ros-kilted-rmw-fastrtps-cpp==9.3.3 numpy==2.4.6
cat > "$folder/publish.py" <<'PYTHON'
import sys

from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Float64

try:
    message = Float64(data=3)
    arrived = deserialize_message(serialize_message(message), Float64).data
    print("set", message.data, "arrives as", arrived)
    sys.exit(0 if abs(arrived) < 1e-300 else "this has changed")
except AssertionError as error:
    print("refused:", error)
    sys.exit(3)
PYTHON
echo "rclpy $("$folder/venv/bin/pip" show ros-kilted-rclpy | sed -n 's/^Version: //p')"
env -u ROS_PYTHON_CHECK_FIELDS "$folder/venv/bin/python" "$folder/publish.py"
status=0
ROS_PYTHON_CHECK_FIELDS=1 "$folder/venv/bin/python" "$folder/publish.py" || status=$?
[ "$status" -eq 3 ] || { echo "this has changed"; exit 1; }
