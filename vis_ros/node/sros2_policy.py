"""The SROS2 policy of a node with several cameras, made of the one that ships.

    python -m vis_ros.node.sros2_policy front,left > policy.xml

For a node whose ``front/image`` is remapped to ``/front/image_raw``, its ``front/depth`` to ``/front/depth``...
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

from vis_core.errors import OptionError
from vis_ros.node.topics import ONLY, camera_names, topic_of
from vis_ros.node.transport import installed_file

SHIPPED = "sros2_policy.xml"
_CAMERA = "/camera"
_OF_THE_NODE = ("~/transition_event", "segmenter/transition_event")


def policy_for(cameras: Sequence[str], shipped: Path) -> str:
    """The policy, as XML.

    Args:
        cameras: their names.
        shipped: the policy for one camera.
    """
    reading = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))  # noqa: S314 (our own file)
    root = ElementTree.parse(shipped, reading).getroot()  # noqa: S314
    for topics in root.iter("topics"):
        for topic in list(topics):
            names = _names(topic.text or "", cameras)
            if names != [topic.text]:
                topics.remove(topic)
                for name in names:
                    ElementTree.SubElement(topics, "topic").text = name
    enclaves = root.find("enclaves")
    assert enclaves is not None
    for enclave in [one for one in enclaves if one.get("path") == _CAMERA]:
        place = list(enclaves).index(enclave)
        enclaves.remove(enclave)
        for camera in reversed(cameras):
            enclaves.insert(place, _of_camera(enclave, camera))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _names(name: str, cameras: Sequence[str]) -> list[str]:
    """What a topic of the policy for one camera is called for several."""
    if name.startswith(f"{_CAMERA}/"):
        return [f"/{camera}{name.removeprefix(_CAMERA)}" for camera in cameras]
    if name.startswith("/") or name in _OF_THE_NODE:
        return [name]
    relative = name.replace("segmenter/", "~/", 1) if name.startswith("segmenter/") else name
    return [topic_of(camera, relative) for camera in cameras]


def _of_camera(enclave: ElementTree.Element, camera: str) -> ElementTree.Element:
    """The enclave of the one that gives a camera's images."""
    own = deepcopy(enclave)
    own.set("path", f"/{camera}")
    for profile in own.iter("profile"):
        profile.set("node", camera)
    for topics in own.iter("topics"):
        for topic in list(topics):
            name = topic.text or ""
            if name.startswith("/") and not name.startswith(f"/{camera}/") and name.count("/") > 1:
                topics.remove(topic)
    return own


def main(arguments: Sequence[str]) -> None:
    """Print the policy for the cameras that are named, as of the parameter ``cameras``."""
    try:
        cameras = camera_names(arguments[0] if arguments else "")
    except OptionError as error:
        sys.exit(str(error))
    shipped = installed_file("config", SHIPPED)
    print(shipped.read_text("utf-8") if cameras == (ONLY,) else policy_for(cameras, shipped), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
