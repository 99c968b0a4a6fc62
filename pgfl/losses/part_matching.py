"""Which parts of two pictures of one person correspond, and what that teaches (Gao et al., CVPR
2020, Sections 3.3 and 3.4).

The parts of a pair are matched as the nodes of two graphs. Part i corresponds (x_i = 1) where the
two parts i are alike and lie alike to the other parts:

    x = argmax x^T W x - lambda^T x,  W_ii = cos(i, i'),  W_ij = cos(i - j, i' - j') less its mean
"""

import torch
from torch import Tensor
from torch.nn import functional


def part_matching_losses(
    parts: Tensor, visibility: Tensor, labels: Tensor, rate: float = 0.9
) -> tuple[Tensor, Tensor]:
    """The matching loss of the parts' features, and the verification loss of their visibility.

    Both are means over all pairs of different images of one person in the batch. What is compared
    with a mean (W_ij, and the likeness that corresponding parts have at least, lambda) takes it
    over these pairs.

    Args:
        parts: (N, P, c), P at least 2.
        visibility: (N, P) in [0, 1]; that of a pair is the product of its images'.
        labels: (N,); two of them equal at least.
        rate: of the mean likeness of parts, which is lambda.

    Returns:
        Two float32 scalars. The first is least where corresponding parts are alike and the parts
        of one image are not; the second is the cross-entropy of the visibility against x.

    Raises:
        ValueError: no pair. On a GPU, where looking would have every step wait, the losses are NaN
            instead.
    """
    with torch.autocast(parts.device.type, enabled=False):
        parts, visibility = parts.float(), visibility.float()
        count = parts.shape[1]
        pairs = torch.triu(labels[:, None] == labels, diagonal=1).to(parts.dtype)
        if not pairs.is_cuda and not pairs.any():
            raise ValueError("matching parts needs two images of one person")

        def mean(of_pairs: Tensor) -> Tensor:
            """Over the pairs: (N, N, ...) to (...)."""
            return torch.tensordot(pairs, of_pairs, dims=2) / pairs.sum()

        alike, structure = likeness(parts)
        affinity = torch.diag_embed(alike) + structure - mean(structure.detach())
        found = correspondence(affinity.detach(), rate * mean(alike.detach()))
        agreement = torch.einsum("ijp,ijpq,ijq->ij", found, affinity, found)
        directions = directions_of(parts)
        among = (directions @ directions.transpose(1, 2)).sum(dim=2)
        among = (among - directions.square().sum(dim=2)) / (count - 1)
        confusion = ((among[:, None] + among) / 2 * found).sum(dim=2)
        both = visibility[:, None] * visibility
        verification = functional.binary_cross_entropy(both, found, reduction="none").mean(dim=2)
        return mean(confusion - agreement), mean(verification)


def likeness(parts: Tensor) -> tuple[Tensor, Tensor]:
    """How alike the parts of any two images are, and how alike they lie to each other.

    Args:
        parts: (N, P, c).

    Returns:
        cos(i, i') (N, N, P), and cos(i - j, i' - j') (N, N, P, P), with zeros where i is j.
    """
    images, count, _ = parts.shape
    directions = directions_of(parts).transpose(0, 1)
    between = directions_of(parts[:, :, None] - parts[:, None])
    between = between.flatten(1, 2).transpose(0, 1)
    alike = directions @ directions.transpose(1, 2)
    structure = between @ between.transpose(1, 2)
    return (
        alike.permute(1, 2, 0),
        structure.permute(1, 2, 0).view(images, images, count, count),
    )


def directions_of(vectors: Tensor) -> Tensor:
    """Vectors (..., c) at length one; a vector of zeros, which is a part found nowhere, stays so.

    It gets no gradient, where `normalize` would make one as long as 1e12.
    """
    lengths = vectors.norm(dim=-1, keepdim=True)
    nothing = lengths == 0
    return (vectors / lengths.masked_fill(nothing, 1)).masked_fill(nothing, 0)


def correspondence(affinity: Tensor, least: Tensor) -> Tensor:
    """The x of zeros and ones with the highest x^T W x - lambda^T x, found by trying all.

    Args:
        affinity: W, (..., P, P), with P small.
        least: lambda, (P,).

    Returns:
        (..., P); all zeros where nothing is above that.
    """
    count = affinity.shape[-1]
    numbers = torch.arange(2**count, device=affinity.device)
    bits = torch.arange(count - 1, -1, -1, device=affinity.device)
    all_x = ((numbers[:, None] >> bits) & 1).to(affinity.dtype)
    products = (all_x[:, :, None] * all_x[:, None]).flatten(1)
    values = affinity.flatten(-2) @ products.T - all_x @ least
    return all_x[values.argmax(dim=-1)]
