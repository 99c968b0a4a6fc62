"""HOReID's module T: two persons' graphs are matched, and each takes in the other's nodes."""

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

SHARPNESS = 200.0
"""The affinities' factor before the softmax."""
EPSILON = 1e-10
"""Added to each entry, so that no column is empty."""
NORMALISATIONS = 20
"""Of the columns and of the rows in turn."""
SLOPE = 0.2
"""Of the leaky ReLU below zero."""


def doubly_stochastic(affinities: Tensor) -> Tensor:
    """Sinkhorn's iteration from a softmax over each row: (P, K, K) to weights (P, K, K)."""
    weights = (SHARPNESS * affinities).softmax(dim=2) + EPSILON
    for turn in range(NORMALISATIONS):
        weights = weights / weights.sum(dim=1 + turn % 2, keepdim=True)
    return weights


class NodeLayer(nn.Module):
    """Two linear maps of each node by itself, the sum of their leaky ReLUs."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.linear = nn.Linear(inputs, 2 * outputs)

    def forward(self, nodes: Tensor) -> Tensor:
        """(P, K, inputs) to (P, K, outputs)."""
        return self.activated(self.linear(nodes))

    @staticmethod
    def activated(mapped: Tensor) -> Tensor:
        """What both maps gave, (P, K, 2 * outputs), to (P, K, outputs)."""
        first, second = functional.leaky_relu(mapped, SLOPE).chunk(2, dim=2)
        return first + second


class Affinity(nn.Module):
    """x A y^T of the nodes of two graphs, with a learnt symmetric A."""

    def __init__(self, channels: int):
        super().__init__()
        bound = 1 / math.sqrt(channels)
        noise = torch.empty(channels, channels).uniform_(-bound, bound)
        self.weight = nn.Parameter(torch.eye(channels) + noise)

    def forward(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """(P, K, c) and (P, K, c) to (P, K, K); one P may be 1."""
        symmetric = (self.weight + self.weight.T) / 2
        return ours @ symmetric @ theirs.transpose(1, 2)


class Encoded(NamedTuple):
    """What of a graph does not depend on the other one."""

    nodes: Tensor
    """V^R, (N, K, c)."""
    hidden: Tensor
    """After the first layer, (N, K, d)."""
    own: Tensor
    """The graph's share of its own second layer, before the ReLU: (N, K, 2 d)."""
    other: Tensor
    """Its share of the other graph's second layer, before nodes are matched: (N, K, 2 d)."""

    def rows(self, some: Tensor | slice) -> Self:
        """Of some graphs."""
        return type(self)(*(one[some] for one in self))


class Topology(nn.Module):
    """f_T, the CGEA layer.

    Between its two node layers, each graph mixes its nodes with the matched ones of the other.
    That is a linear map [own, matched other] before another linear map, so both are done for
    each graph once (`encode`), and a pair only has to add them (`forward`).
    """

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.embed = NodeLayer(channels, hidden)
        self.affinity = Affinity(hidden)
        self.cross = nn.Linear(2 * hidden, hidden)
        self.refine = NodeLayer(hidden, hidden)
        self.refined_affinity = Affinity(hidden)

    def encode(self, nodes: Tensor) -> Encoded:
        """V^R (N, K, c), one graph at a time."""
        hidden = self.embed(nodes)
        for_own, for_other = self.cross.weight.chunk(2, dim=1)
        own = self.refine.linear(functional.linear(hidden, for_own, self.cross.bias))
        other = functional.linear(functional.linear(hidden, for_other), self.refine.linear.weight)
        return Encoded(nodes, hidden, own, other)

    def match(self, ours: Encoded, theirs: Encoded) -> Tensor:
        """U (P, K, K): row i says which of their nodes our node i is; rows sum to one."""
        matched = doubly_stochastic(self.affinity(ours.hidden, theirs.hidden))
        mine = NodeLayer.activated(ours.own + matched @ theirs.other)
        yours = NodeLayer.activated(theirs.own + matched.transpose(1, 2) @ ours.other)
        return doubly_stochastic(self.refined_affinity(mine, yours))

    def forward(self, ours: Encoded, theirs: Encoded) -> tuple[Tensor, Tensor, Tensor]:
        """P pairs of graphs; where one has a single graph, it is paired with all of the other.

        Returns:
            U (P, K, K); V_1^T and V_2^T (P, K, c), each node with the other graph's matched
            nodes added.
        """
        matched = self.match(ours, theirs)
        first = ours.nodes + matched @ theirs.nodes
        second = theirs.nodes + matched.transpose(1, 2) @ ours.nodes
        return matched, first, second


class Verification(nn.Module):
    """f_P: whether two matched graphs are of one person."""

    def __init__(self, channels: int, nodes: int, scale: float):
        super().__init__()
        self.scale = scale
        self.linear = nn.Linear(nodes * channels, 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """V_1^T and V_2^T (P, K, c) to logits (P,); their sigmoid is s^T."""
        alike = functional.normalize(first, dim=2) * functional.normalize(second, dim=2)
        return self.linear(self.scale * alike.flatten(1))[:, 0]


def hardest_pairs(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each image, the least alike of its identity, and the most alike of another.

    Args:
        features: (N, c), compared by their cosine.
        labels: (N,).

    Returns:
        The rows of the hardest positives (N,) and negatives (N,), and whether there are any:
        (N, 2) of 1 and 0. Where there is none, the row is any.
    """
    unit = functional.normalize(features, dim=1)
    cosines = unit @ unit.T
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive, negative = same & ~itself, ~same
    found = torch.stack([positive.any(dim=1), negative.any(dim=1)], dim=1)
    return (
        cosines.masked_fill(~positive, torch.inf).argmin(dim=1),
        cosines.masked_fill(~negative, -torch.inf).argmax(dim=1),
        found.to(features.dtype),
    )
