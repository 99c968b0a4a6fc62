"""The foreground-enhanced branch, FEB (Section 3.2): where to look, told by the pose."""

import torch
from torch import Tensor

from pgfl.nn.part_pooling import pool_parts

FAINTEST = 0.01
"""Of `centred`: what is shorter than this part of the image's mean deviation is no direction."""
TINY = 1e-12


def foreground_attention(
    features: Tensor, query: Tensor, similarity: str, temperature: float = 1.0
) -> Tensor:
    """Eq. 2: a softmax over positions of how much each resembles the pose-pooled feature f_L.

    Args:
        features: F, (N, c, h, w).
        query: f_L, (N, c), the mean of the part features.
        similarity: `cosine` (the paper's text), `dot` (its formula), `centred` (the cosine of
            what is left when the image's mean feature is taken off both: what makes a position
            special, not what all have in common), or `uniform` (a control that looks everywhere
            alike).
        temperature: divides the cosines; the other similarities have none.

    Returns:
        (N, h, w) float32, summing to one. With `centred` it becomes flat where the pose says
        nothing, that is where f_L is the mean feature.

    Raises:
        ValueError: no such similarity.
    """
    with torch.autocast(features.device.type, enabled=False):
        flat, query = features.float().flatten(2), query.float()
        match similarity:
            case "cosine":
                scores = cosines(flat, query, temperature)
            case "centred":
                mean = flat.mean(dim=2)
                # Flat maps pool the mean itself, and f_L less the mean is rounding. Stretched to
                # a length of one it would look anywhere, with a gradient 10,000 times the usual.
                scores = cosines(flat - mean[..., None], query - mean, temperature, FAINTEST)
            case "dot":
                scores = torch.einsum("nc,ncp->np", query, flat)
            case "uniform":
                scores = torch.zeros_like(flat[:, 0])
            case _:
                raise ValueError(f"there is no similarity {similarity!r}")
        return scores.softmax(dim=1).view(-1, *features.shape[2:])


def cosines(flat: Tensor, query: Tensor, temperature: float, faintest: float = 0.0) -> Tensor:
    """Cosines of (N, c) `query` with each position of (N, c, p) `flat`, over `temperature`.

    What is shorter than `faintest` times the image's mean length is divided by that length.
    """
    lengths = flat.norm(dim=1)
    least = (faintest * lengths.detach().mean(dim=1, keepdim=True)).clamp_min(TINY)
    query = query / query.norm(dim=1, keepdim=True).maximum(least) / temperature
    # Scores are divided, not the far larger map.
    return torch.einsum("nc,ncp->np", query, flat) / lengths.maximum(least)


def length_ratio(wanted: Tensor, given: Tensor) -> Tensor:
    """What brings each row of (N, c) `given` to the length of `wanted`: (N, 1), a constant."""
    lengths = [feature.detach().norm(dim=1, keepdim=True) for feature in (wanted, given)]
    return lengths[0] / lengths[1].clamp_min(TINY)


def attend(features: Tensor, attention: Tensor) -> Tensor:
    """Eq. 3: f_F, the attention-weighted sum of the feature map.

    Args:
        features: F, (N, c, h, w).
        attention: (N, h, w).

    Returns:
        (N, c) float32.
    """
    return pool_parts(features, attention[:, None])[:, 0]
