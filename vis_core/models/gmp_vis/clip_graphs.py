"""The pieces of VisTR's network that are exported: frames, windows of fixed length, masks of a slot."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vis_core.models.gmp_vis.clip_network import ClipNetwork, ClipStates
from vis_core.nn.graphs import Graph

_SIZE = 96, 160
_ADAPTED = {"adapted16": 16, "adapted8": 8, "adapted4": 4}
"""Of each map that the mask head adds, its stride."""


def graphs(network: ClipNetwork) -> Mapping[str, Graph]:
    """``frame``: of an image of any size; ``window``: of a clip's tokens; ``masks``: of one slot's queries."""
    frame, window, image = _Frame(network), _Window(network), torch.zeros((1, 3, *_SIZE))
    with torch.inference_mode():
        tokens, *adapted = (x.expand(network.clip_length, -1, -1, -1).contiguous() for x in frame(image))
        queries, memory, *_ = window(tokens)
    coarsest = {2: "height32", 3: "width32"}
    asked = {"queries": queries[:, :1].clone(), "memory": memory.clone()}
    sizes = {name: {2: f"height{stride}", 3: f"width{stride}"} for name, stride in _ADAPTED.items()}
    given = ("queries", "memory", "logits", "boxes", *(("embeddings",) if network.matching else ()))
    return {
        "frame": Graph(frame, {"image": image}, ("tokens", *_ADAPTED), {"image": {2: "height", 3: "width"}}),
        "window": Graph(window, {"tokens": tokens.clone()}, given, {"tokens": coarsest}),
        "masks": Graph(
            _Masks(network),
            asked | {name: x.clone() for name, x in zip(_ADAPTED, adapted)},
            ("mask_logits",),
            {"memory": coarsest} | sizes,
        ),
    }


class _Piece(nn.Module):
    def __init__(self, network: ClipNetwork) -> None:
        super().__init__()
        self.network = network


class _Frame(_Piece):
    """What of a frame depends on it alone."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.network.maps(image)
        return self.network.tokens(maps[3]), *self.network.adapted(maps)


class _Window(_Piece):
    """What the transformer says of a clip."""

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        states = self.network.states(tokens)
        last, embeddings = states.queries[-1], self.network.embeddings(states)
        answers = last, states.memory, self.network.logits(last), self.network.boxes(last)
        return answers if embeddings is None else (*answers, embeddings)


class _Masks(_Piece):
    """Mask logits ``[1, T, h, w]`` of a slot, whose queries are ``[T, 1, d]``."""

    def forward(self, queries: Tensor, memory: Tensor, adapted16: Tensor, adapted8: Tensor, adapted4: Tensor) -> Tensor:
        return self.network.masks(ClipStates(queries[None], memory, None), (adapted16, adapted8, adapted4), [0])
