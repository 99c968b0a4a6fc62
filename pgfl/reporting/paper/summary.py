"""What a reader wants first: ours beside the paper's, on how much it stands, and differences."""

import pandas as pd

from pgfl.reporting.evaluations import Measured, protocol_note
from pgfl.reporting.paper.numbers import dataset_name
from pgfl.reporting.paper.specs import PUBLISHED_AS, TableSpec
from pgfl.reporting.statistics import paired_difference

LeftOut = dict[str, list[str]]
"""For each test set that a table goes without: the names of the files that are missing."""
NOT_MEASURED = "–"
"""A cell, for reading, of a data set that is left out; in CSV files it is empty."""

Measurements = dict[tuple[str, str], list[Measured]]
"""For each (variant, test set): one evaluation per seed, the same seeds in the same order."""


def heading(column: str) -> str:
    """A column for reading: `occluded_duke.rank1` to `Occluded-Duke Rank-1`."""
    test_set, metric = column.split(".")
    return f"{dataset_name(test_set)} {metric.replace('rank', 'Rank-')}"


def comparison(table: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    """Our methods only: each number as published and as reproduced, with its deviation.

    Args:
        table: the whole table, text, with `{column}.std` for each column.
        spec: the table's.
    """
    published = table[table["source"] == "published"].set_index("method")
    ours = table[table["source"] == "reproduced"].set_index("method")
    rows = []
    for method in spec.reproduced:
        theirs = PUBLISHED_AS.get(method, method)
        row = {"method": method}
        for column in spec.columns:
            printed = published[column].get(theirs, "")
            std = ours.loc[method, f"{column}.std"]
            row[f"{heading(column)}, published"] = printed
            # Only a test set that is left out has no mean.
            mean = ours.loc[method, column] or NOT_MEASURED
            row[f"{heading(column)}, reproduced"] = with_spread(mean, std)
        rows.append(row)
    return pd.DataFrame(rows)


def left_out_note(left_out: LeftOut) -> str:
    """What stands below a table with empty cells: whose they are, and why; else nothing."""
    if not left_out:
        return ""
    sets = "; ".join(f"{dataset_name(d)} ({', '.join(files)})" for d, files in left_out.items())
    return f"{NOT_MEASURED}: left out, since files are missing: {sets}."


def with_spread(mean: str, std: str) -> str:
    """`52.7 ± 0.41`, or the mean alone."""
    return f"{mean} ± {std}" if std else mean


def basis(measurements: Measurements, spec: TableSpec) -> str:
    """What stands above a table: on how much its numbers stand, and what they are.

    Raises:
        UserError: an evaluation file does not say.
    """
    seeds = len(next(iter(measurements.values())))
    spread = (
        "with one seed, nobody can tell a small difference from chance"
        if seeds == 1
        else "reproduced: mean ± sample standard deviation over the seeds"
    )
    return f"{extent(measurements, spec)}. Percent; {spread}.{unusual(measurements)}"


def extent(measurements: Measurements, spec: TableSpec) -> str:
    """On how many seeds, people and images the numbers stand, without a full stop.

    Raises:
        UserError: an evaluation file does not say.
    """
    seeds = len(next(iter(measurements.values())))
    some = next(iter(spec.reproduced.values()))
    sizes = [
        "{query_identities} people, {query} queries, {gallery} gallery images ({name})".format(
            **measurements[some, test_set][0].counts, name=dataset_name(test_set)
        )
        for test_set in spec.test_sets
        if (some, test_set) in measurements
    ]
    return "; ".join(["One seed" if seeds == 1 else f"{seeds} seeds", *sizes])


def unusual(measurements: Measurements) -> str:
    """What is unusual in how features were matched, as sentences to append."""
    return "".join(sorted({protocol_note(measured[0]) for measured in measurements.values()}))


def differences(measurements: Measurements, spec: TableSpec) -> pd.DataFrame:
    """Each compared pair of methods: mean difference over seeds and its 95 % interval.

    Args:
        measurements: two seeds or more; test sets that are left out have none, and no column.
        spec: the table's.
    """
    rows = []
    for method, reference in spec.compared:
        row = {"difference": f"{method} minus {reference}"}
        for column in spec.columns:
            test_set, metric = column.split(".")
            if (spec.reproduced[method], test_set) not in measurements:
                continue
            first = measurements[spec.reproduced[method], test_set]
            second = measurements[spec.reproduced[reference], test_set]
            pair = ([one.value(metric) for one in runs] for runs in (first, second))
            row[heading(column)] = str(paired_difference(*pair))
        rows.append(row)
    return pd.DataFrame(rows)
