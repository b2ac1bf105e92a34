"""Random weights of a narrow visolo-lite, for tests of what does not depend on what they see."""

import json

import torch

from vis_core.checkpoints import write_tensors
from vis_core.models.visolo.lite_network import GRID, lite_network


def small(classes=3, grid=GRID):
    network = lite_network(classes, 64, 64, grid)
    network.initialise(torch.Generator().manual_seed(1))
    return network


def write(path, network, names, dtype=torch.float16):
    metadata = {"format": "vis_core 1", "system": "visolo-lite", "class_names": json.dumps(names)}
    tensors = {key: x.to(dtype) for key, x in network.state_dict().items()}
    write_tensors(path, {**tensors, "grid": torch.tensor(network.grid)}, metadata)
    return path
