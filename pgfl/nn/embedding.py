"""What a method makes of an image to be compared: one vector, or several that may be hidden."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

Array = np.ndarray | torch.Tensor


@dataclass(frozen=True)
class Embedding:
    """The vectors of N images.

    One vector per image is the usual case, and may be given as (N, c). A spatial map of h x w
    places is K = h * w vectors.
    """

    vectors: Array
    """(N, K, c), or (N, c) for K = 1."""
    visibility: Array | None = None
    """(N, K) in [0, 1]: how far each vector's part is seen; None where all are."""

    def __post_init__(self):
        """Check the shapes.

        Raises:
            ValueError: they do not fit each other.
        """
        if self.vectors.ndim not in (2, 3):
            raise ValueError(f"vectors must be (N, K, c) or (N, c), got {self.shape}")
        if self.visibility is not None and (
            self.vectors.ndim != 3 or tuple(self.visibility.shape) != self.shape[:2]
        ):
            raise ValueError(
                f"visibility must be (N, K) beside vectors (N, K, c), got "
                f"{tuple(self.visibility.shape)} beside {self.shape}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the vectors."""
        return tuple(self.vectors.shape)

    @property
    def is_single(self) -> bool:
        """Whether each image has one vector that is always seen: a plain matrix will do."""
        return self.visibility is None and (self.vectors.ndim == 2 or self.shape[1] == 1)

    @property
    def matrix(self) -> Array:
        """(N, c) of an embedding that `is_single`."""
        assert self.is_single
        return self.vectors if self.vectors.ndim == 2 else self.vectors[:, 0]

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: np.ndarray | slice) -> Self:
        """The embedding of some of the images."""
        return self.mapped(lambda array: array[rows])

    def mapped(self, change: Callable[[Array], Array]) -> Self:
        """The embedding with its arrays changed."""
        visibility = None if self.visibility is None else change(self.visibility)
        return type(self)(change(self.vectors), visibility)


def joined(parts: Sequence[Embedding]) -> Embedding:
    """The embedding of all images of some embeddings, in order.

    Args:
        parts: at least one, NumPy arrays; all with visibilities, or none.

    Raises:
        ValueError: shapes that do not fit each other.
    """
    if len({part.visibility is None for part in parts}) > 1:
        raise ValueError("some of the embeddings have visibilities and others have none")
    visibility = None
    if parts[0].visibility is not None:
        visibility = np.concatenate([part.visibility for part in parts])
    return Embedding(np.concatenate([part.vectors for part in parts]), visibility)
