"""HOReID's module R: graph convolutions that learn in which direction parts pass messages."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

GAP_SCALE = 15
"""The authors multiply the gap of two parts by this before its batch normalisation."""


class DirectedGraphLayer(nn.Module):
    """One ADGC layer: a link's two directions share a weight, and the nodes decide how.

    The last node is the whole image. It passes messages to all parts, and receives none.
    """

    adjacency: Tensor
    start: Tensor
    end: Tensor

    def __init__(self, channels: int, parts: int, links: Sequence[tuple[int, int]], scale: float):
        """Set up a layer.

        Args:
            channels: of the nodes, before and after.
            parts: K, without the whole image.
            links: pairs of parts (i, j) with i < j, each at most once.
            scale: how sharply a gap decides for one direction.
        """
        super().__init__()
        self.scale = scale
        start, end = torch.tensor(links).T
        # Row i says whom node i hears: linked parts and the whole image, but never itself.
        adjacency = torch.zeros(parts + 1, parts + 1)
        adjacency[start, end] = adjacency[end, start] = 1
        adjacency[:, -1] = 1
        for name, value in {"adjacency": adjacency, "start": start, "end": end}.items():
            self.register_buffer(name, value, persistent=False)
        self.norm = nn.BatchNorm1d(channels)
        self.direct = nn.Linear(channels, 1, bias=False)
        self.keep = nn.Linear(channels, channels, bias=False)
        self.merge = nn.Linear(channels, channels, bias=False)

    def directed(self, nodes: Tensor) -> Tensor:
        """A^adp: nodes (N, K + 1, c) to weights (N, K + 1, K + 1), each row summing to one."""
        far = (nodes - nodes[:, -1:]).abs()
        gaps = GAP_SCALE * (far[:, self.start] - far[:, self.end])
        gaps = self.norm(gaps.transpose(1, 2)).transpose(1, 2)
        share = torch.sigmoid(self.scale * self.direct(gaps))[..., 0]
        weights = self.adjacency.to(nodes.dtype).repeat(len(nodes), 1, 1)
        weights[:, self.start, self.end] = 2 * share
        weights[:, self.end, self.start] = 2 * (1 - share)
        return functional.normalize(weights, p=1, dim=2)

    def forward(self, nodes: Tensor) -> Tensor:
        """(N, K + 1, c) to the same."""
        merged = self.merge(self.directed(nodes) @ nodes)
        return functional.relu(merged) + self.keep(nodes)


class Relation(nn.Module):
    """f_R: two such layers."""

    def __init__(self, channels: int, parts: int, links: Sequence[tuple[int, int]], scale: float):
        super().__init__()
        self.layers = nn.Sequential(
            *(DirectedGraphLayer(channels, parts, links, scale) for _ in range(2))
        )

    def forward(self, nodes: Tensor) -> Tensor:
        """V^S to V^R, (N, K + 1, c)."""
        return self.layers(nodes)
