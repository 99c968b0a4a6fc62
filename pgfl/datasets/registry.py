"""The data sets that the workflow ships: for each name, all that its module says of it.

A new data set is one module and one line here. No hash of code counts this list, so that a new
name reruns nothing: rules name the module of the data set that they are about.
"""

from importlib import import_module

from pgfl.datasets.definition import DataSet
from pgfl.untrusted.obtain import Source

NAMES = (
    "market1501",
    "dukemtmc_reid",
    "occluded_duke",
    "occluded_reid",
    "partial_reid",
    "partial_ilids",
    "partial_duke",
)
"""As in Table 1 of the paper."""

DATASETS: dict[str, DataSet] = {
    name: import_module(f"pgfl.datasets.{name}").DATASET for name in NAMES
}

SOURCES: dict[str, Source] = {name: one.source for name, one in DATASETS.items() if one.source}
"""The archive of each data set that has one."""

TRAIN_SET: dict[str, str] = {
    name: DATASETS[name].models_of or name
    for name in sorted(NAMES, key=lambda name: bool(DATASETS[name].models_of))
}
"""For each test set, the set that its models are trained on; test-only sets come last."""
