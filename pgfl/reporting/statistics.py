"""What a few seeds can say: means, spreads, and differences with their intervals."""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit


def mean_text(values: list[float]) -> str:
    """The mean with one decimal, as the paper's tables have it.

    >>> mean_text([52.0, 53.5])
    '52.8'
    """
    return f"{np.mean(values):.1f}"


def std_text(values: list[float]) -> str:
    """The sample standard deviation (n - 1) with two decimals; empty for a single value.

    >>> std_text([52.0, 53.5]), std_text([52.0])
    ('1.06', '')
    """
    return f"{np.std(values, ddof=1):.2f}" if len(values) > 1 else ""


@dataclass(frozen=True)
class Difference:
    """A mean difference and its confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.1f} ({self.low:+.1f} to {self.high:+.1f})"


def paired_difference(
    first: list[float], second: list[float], confidence: float = 0.95
) -> Difference:
    """The mean of `first[i] - second[i]` with Student's t interval over the pairs.

    Runs with the same seed are a pair. The interval speaks of other seeds only: the test images
    are the same in all of them.

    Args:
        first: one value per seed.
        second: the other method's, in the same order.
        confidence: between 0 and 1.

    Raises:
        ValueError: not the same number of values, or fewer than two.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"need two or more pairs, not {len(first)} and {len(second)} values")
    differences = np.subtract(first, second)
    pairs = len(differences)
    error = differences.std(ddof=1) / np.sqrt(pairs)
    half = float(stdtrit(pairs - 1, (1 + confidence) / 2) * error)
    mean = float(differences.mean())
    return Difference(mean, mean - half, mean + half)
