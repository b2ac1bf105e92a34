"""Do a camera's images reach the node? Best-effort rgb8 at 30 Hz from another process, by three transports of Fast DDS.

    python benchmarks/transport.py

Prints how many of the images sent arrived in the node's mailbox, as the node counts them on ``/diagnostics``.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import subprocess
import sys
import time
from array import array
from pathlib import Path

from conditions import QUICK, tell
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PROFILES, BUILTIN = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS"
TRANSPORTS = ("default of Fast DDS", "LARGE_DATA of Fast DDS", "shipped profile")
SIZES = ((640, 360), (1280, 720))
RATE = 30.0
TIMEOUT = 120.0


def camera(width: int, height: int, frames: int) -> int:
    """Publish images to the node; returns how many it says to have received."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    rclpy.init(args=[])
    node = rclpy.create_node("camera", namespace="vis")
    publisher = node.create_publisher(Image, "image", qos_profile_sensor_data)
    counts: queue.SimpleQueue[int] = queue.SimpleQueue()

    def on_diagnostics(message: DiagnosticArray) -> None:
        values = {pair.key: pair.value for pair in message.status[0].values}
        if "images received" in values:
            counts.put(int(values["images received"]))

    node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 10)

    def next_count() -> int:
        deadline = time.monotonic() + TIMEOUT
        while counts.empty():
            rclpy.spin_once(node, timeout_sec=1.0)
            if time.monotonic() > deadline:
                raise TimeoutError("the node publishes no diagnostics")
        return counts.get()

    while publisher.get_subscription_count() == 0:
        next_count()
    message = Image(width=width, height=height, encoding="rgb8", step=width * 3)
    message.data = array("B", os.urandom(width * height * 3))
    start = time.monotonic()
    for index in range(frames):
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
        rest = start + (index + 1) / RATE - time.monotonic()
        if rest > 0:
            time.sleep(rest)
    while not counts.empty():
        counts.get()
    received, previous = next_count(), -1
    while received != previous:
        received, previous = next_count(), received
    node.destroy_node()
    rclpy.shutdown()
    return received


def measure(width: int, height: int, frames: int, chosen: str, domain: int) -> int:
    """Run node and camera in processes of their own; returns how many images arrived."""
    from vis_ros.node.transport import profile_path

    shipped = chosen == "shipped profile"
    environment = {name: value for name, value in os.environ.items() if name not in (PROFILES, BUILTIN)}
    environment["ROS_DOMAIN_ID"] = str(domain)
    if shipped:
        environment[PROFILES] = str(profile_path())
    if chosen.startswith("LARGE_DATA"):
        environment[BUILTIN] = "LARGE_DATA"
    small = {"input_size": "[64, 96]", "max_instances": "1", "threads": "1"}
    parameters = [word for name, value in small.items() for word in ("-p", f"{name}:={value}")]
    transport = [] if shipped else ["--default-transport"]
    node = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "vis_ros.node.segmenter_node",
            *transport,
            "--ros-args",
            "-r",
            "__ns:=/vis",
            *parameters,
        ],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        command = [sys.executable, __file__, "--camera", f"{width}x{height}", "--frames", str(frames)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    finally:
        node.send_signal(signal.SIGINT)
        node.wait()
    return int(done.stdout)


def main() -> None:
    """Measure every size with each transport, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--quick", action="store_true", help=QUICK)
    parser.add_argument("--camera", metavar="WxH", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = SIZES[:1] if options.quick else SIZES
    if options.quick:
        options.frames = 60
    if options.camera:
        width, height = map(int, options.camera.split("x"))
        print(camera(width, height, options.frames))
        return
    from vis_ros.recordings.session import free_domain

    table = Table("image", "transport", "sent", "arrived", title=f"rgb8, best effort, {RATE:g} Hz, two processes")
    for width, height in sizes:
        for name in TRANSPORTS:
            with free_domain() as domain:
                arrived = measure(width, height, options.frames, name, domain)
            tell(f"{width}x{height}, {name}: {arrived} of {options.frames} arrived")
            table.add_row(f"{width}x{height}", name, str(options.frames), str(arrived))
    Console().print(table)


if __name__ == "__main__":
    main()
