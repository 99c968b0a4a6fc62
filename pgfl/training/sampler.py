"""PK sampling: every batch holds P identities with K images each."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from pgfl.errors import UserError


def pk_batches(
    labels: Sequence[int], identities: int, images: int, rng: np.random.Generator
) -> list[list[int]]:
    """One epoch of batches, in which every identity occurs.

    The images of an identity are shuffled and cut into groups of K; a last, incomplete group is
    filled by drawing again from the identity, or dropped if it has others. Batches take groups
    of P different identities, those with more groups left being likelier, until all groups are
    used; the last batches are filled with groups of other identities.

    Args:
        labels: the identity of each image.
        identities: P.
        images: K.
        rng: decides everything.

    Returns:
        Batches of P * K row numbers, the images of an identity next to each other.

    Raises:
        UserError: fewer than P identities.
    """
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        rows_of[label].append(row)
    if len(rows_of) < identities:
        raise UserError(
            f"setting training.identities: {identities} identities in a batch, but only "
            f"{len(rows_of)} to train on"
        )
    groups = {label: _groups(rows, images, rng) for label, rows in rows_of.items()}
    batches = []
    while True:
        left = np.array([len(groups[label]) for label in groups], dtype=float)
        waiting = int(np.count_nonzero(left))
        if waiting == 0:
            return batches
        names = list(groups)
        # Drawing without replacement, weighted by what is left: the exponential race.
        with np.errstate(divide="ignore"):
            arrival = rng.exponential(size=len(left)) / left
        chosen = [names[i] for i in np.argsort(arrival)[: min(identities, waiting)]]
        batch = [groups[label].pop() for label in chosen]
        others = [label for label in names if label not in chosen]
        for pick in rng.permutation(len(others))[: identities - len(chosen)]:
            batch.append(_groups(rows_of[others[pick]], images, rng)[0])
        batches.append([row for group in batch for row in group])


def _groups(rows: list[int], size: int, rng: np.random.Generator) -> list[list[int]]:
    """The rows of one identity, shuffled, in groups of `size`; at least one group."""
    mixed = [rows[i] for i in rng.permutation(len(rows))]
    if len(mixed) < size:
        mixed += [rows[i] for i in rng.choice(len(rows), size - len(rows))]
    return [mixed[i : i + size] for i in range(0, len(mixed) - size + 1, size)]
