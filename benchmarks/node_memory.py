"""Whether the node's memory is flat over thousands of images with depth, tracks that come and go, all topics heard.

    python benchmarks/node_memory.py
    python benchmarks/node_memory.py --quick

The real node runs with a segmenter that knows the masks of a small rendered scene; every two seconds of it all tracks
end and new ones begin. Images and depth go to the node as its subscriptions hand them on; a subscriber in the same
process hears every topic, so that its memory counts too. What the process holds is read from the kernel.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import threading
import time
from array import array
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import numpy as np
from conditions import QUICK, tell
from node_overhead import everything
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SIZE, LENGTH = (90, 120), 60
PERIOD = 33_333_333
LIMIT_MIB = 5.0
PATIENCE_SECONDS = 60.0


def held_mib() -> float:
    """Memory of this process that is in use, MiB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def knowing(video: Any) -> Any:
    """A segmenter with a life cycle of its own that sees the solids of a video, and loses one of them now and then."""
    from torch import nn

    from vis_core.structures import Instances
    from vis_core.system.segmenter import Segmenter
    from vis_core.tracking.lifecycle import TrackLifecycle

    class Knowing(Segmenter):
        network = nn.Linear(1, 1)
        class_names = ("ball", "box")

        def __init__(self) -> None:
            self.lifecycle = TrackLifecycle(max_lost_frames=5)
            self.masks = [[video.mask(t, item) for item in range(len(video.labels))] for t in range(LENGTH)]
            self.alive: dict[int, int] = {}

        def step(self, frame: Any, bgr: bool = False) -> list[Instances]:
            if frame.size != SIZE:  # the warm-up
                return []
            t = frame.index % LENGTH
            if t == 0:
                self.lifecycle.end(self.lifecycle.alive)
                self.alive.clear()
            self.lifecycle.expire(frame.stamp)
            seen = [item for item, mask in enumerate(self.masks[t]) if mask.area and (t + 7 * item) % 20 > 2]
            classes = np.eye(2)[video.labels[seen]]
            continues = [self.alive.get(item) for item in seen]
            masks = [self.masks[t][item] for item in seen]
            answer = self.lifecycle.update(frame, continues, np.full(len(seen), 0.9), classes, masks)
            self.alive.update(zip(seen, answer.track_ids.tolist()))
            return [answer]

        def reset(self) -> None:
            self.lifecycle.reset()
            self.alive.clear()

        def state_bytes(self) -> int:
            return self.lifecycle.state_bytes()

    return Knowing()


def run(frames: int, every: int, domain: int) -> list[tuple[int, float]]:
    """Images answered, and the memory then, MiB."""
    import rclpy
    from sensor_msgs.msg import CameraInfo, Image
    from std_msgs.msg import Header

    from vis_core.data.synthetic_depth import Solid, depth_video
    from vis_ros import messages
    from vis_ros.msg import InstanceTrackArray
    from vis_ros.node.segmenter_node import SegmenterNode

    solids = [Solid("ball", (0.5, 0.5, 0.5), (-0.6, 0.3, 3.0), (0.4, 0.0, 0.0))]
    solids += [Solid("box", (0.4, 0.6, 0.4), (0.2 * i - 1, 0.3, 4.0 + 0.3 * i), (-0.1, 0.0, 0.1)) for i in range(7)]
    video = depth_video(solids, LENGTH, SIZE)
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=domain)
    wanted = {"depth": True, "follow": "box", "drop_policy": "every_frame"}
    node = SegmenterNode(
        lambda *_, **__: knowing(video),
        namespace="vis",
        context=context,
        parameter_overrides=[rclpy.parameter.Parameter(name, value=value) for name, value in wanted.items()],
    )
    peer = rclpy.node.Node("peer", namespace="vis", context=context)
    answered = threading.Semaphore(0)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    executor.add_node(peer)
    spinning = threading.Thread(target=executor.spin, daemon=True)
    spinning.start()
    out = []
    try:
        node.trigger_configure()
        node.trigger_activate()
        peer.create_subscription(InstanceTrackArray, "instances", lambda _: answered.release(), 50)
        for topic, kind in everything().items():
            peer.create_subscription(kind, topic, lambda message: None, 50)
        outputs: Any = node._cameras[0].outputs
        worker: Any = node._worker
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (outputs._overlay.get_subscription_count() and outputs.spatial._points.get_subscription_count()):
            if time.monotonic() > deadline:
                raise TimeoutError("the topics were not found")
            time.sleep(0.05)
        (mailbox,) = worker._mailboxes
        buffer = outputs.spatial._buffer
        height, width = SIZE
        info = CameraInfo(height=height, width=width, distortion_model="plumb_bob")
        info.k = video.camera.matrix.ravel()
        buffer.add_info(info)
        for index in range(frames + 1):
            if index % every == 0 and index:
                out.append((index, held_mib()))
                tell(f"{index} of {frames} images: {out[-1][1]:.1f} MiB")
            header = Header(stamp=messages.to_stamp(1_700_000_000_000_000_000 + index * PERIOD), frame_id="camera")
            t = index % LENGTH
            depth = Image(header=header, height=height, width=width, encoding="32FC1", step=4 * width)
            depth.data = array("B", video.depth[t].tobytes())
            buffer.add(depth)
            mailbox.put(messages.rgb_message(video.frames[t], header))
            if not answered.acquire(timeout=PATIENCE_SECONDS):
                raise TimeoutError(f"image {index} was not answered")
        if buffer.counts.paired < frames:
            raise RuntimeError(f"only {buffer.counts.paired} of {frames} images had depth")
        return out
    finally:
        executor.shutdown()
        spinning.join(10)
        node.destroy_node()
        peer.destroy_node()
        rclpy.try_shutdown(context=context)


def main() -> None:
    """Measure, print a table, and fail when memory grows after the first fifth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--quick", action="store_true", help=QUICK)
    options = parser.parse_args()
    frames = 300 if options.quick else options.frames
    from vis_ros.node.transport import use_shared_memory
    from vis_ros.recordings.session import free_domain

    use_shared_memory()
    with free_domain() as domain:
        measured = run(frames, max(frames // 10, 1), domain)
    table = Table("images", "memory [MiB]", title=f"{SIZE[1]}x{SIZE[0]} with depth, 8 objects, every topic heard")
    for index, held in measured:
        table.add_row(str(index), f"{held:.1f}")
    Console().print(table)
    grown = measured[-1][1] - measured[1][1]
    flat = grown < LIMIT_MIB
    print(f"grown after the first fifth: {grown:+.1f} MiB, limit {LIMIT_MIB:g} MiB: {'flat' if flat else 'NOT flat'}")
    sys.exit(not flat and not options.quick)


if __name__ == "__main__":
    main()
