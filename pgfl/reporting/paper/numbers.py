"""The paper's own numbers, as printed; `published/` holds one CSV for each of Tables 2 to 9.

The numbers of Table 1 stand in the modules of the data sets.
"""

from pathlib import Path

import pandas as pd

from pgfl.datasets.registry import DATASETS

PUBLISHED = Path(__file__).resolve().parent / "published"


def read_published(number: int) -> pd.DataFrame:
    """A table of the paper as text: `method`, then its columns; empty where it has no number."""
    return pd.read_csv(PUBLISHED / f"table{number}.csv", dtype=str, keep_default_na=False)


def dataset_name(dataset: str) -> str:
    """What papers call a data set: Occluded-Duke; one of the user's own keeps its name."""
    return DATASETS[dataset].title if dataset in DATASETS else dataset
