"""Video instance segmentation on a robot: a ROS 2 node around ``vis_core``, bags in, scores out.

The build generates ``vis_ros.msg`` from ``msg/`` and installs it; the line below joins it to this folder, so that a
source tree finds the installed messages.
"""

import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)
