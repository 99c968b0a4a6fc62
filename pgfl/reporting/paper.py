"""The paper's own numbers, as printed; `published/` holds a CSV a table."""

import functools
from pathlib import Path

import pandas as pd

PUBLISHED = Path(__file__).resolve().parent / "published"


def read_published(number: int) -> pd.DataFrame:
    """A table of the paper as text: `method`, then its columns; empty where it has no number."""
    return pd.read_csv(PUBLISHED / f"table{number}.csv", dtype=str, keep_default_na=False)


@functools.cache
def dataset_names() -> dict[str, str]:
    """What the paper calls each data set: `occluded_duke` is Occluded-Duke."""
    table = read_published(1)
    return dict(zip(table["dataset"], table["method"], strict=True))


def dataset_name(dataset: str) -> str:
    """What the paper calls a data set; one of the user's own keeps its name."""
    return dataset_names().get(dataset, dataset)
