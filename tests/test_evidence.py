"""The numbers of docs/evidence.md follow from one another, and from docs/evidence.csv."""

import re
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "evidence.md").read_text()
NAMES = {
    "Model 2": "Model 2, SAB",
    "Model 3": "Model 3, + I",
    "Model 4": "Model 4, SAB, I, M",
    "Model 5": "Model 5, + FEB",
    "Model 6": "Model 6, PGFL-KD",
    "PGFL-KD": "Model 6, PGFL-KD",
    "flat maps": "Model 6, flat maps",
    "another image's maps": "Model 6, another image's maps",
    "uniform attention": "Model 6, uniform attention",
    "true joints' maps": "Model 6, true joints' maps",
    "Model 2, unit": "Model 2, `part_scale: unit`",
    "Model 3, unit": "Model 3, `part_scale: unit`",
    "Model 4, unit": "Model 4, `part_scale: unit`",
    "PGFL-KD, unit": "Model 6, `part_scale: unit`",
}
"""What the differences call a model and the tables of seeds do; † goes with either."""
WHEREVER = {
    "baseline": ("separate", "Model 1, baseline"),
    "PGFL-KD, separate": ("separate", "Model 6, PGFL-KD"),
    "Model 4, shared": ("shared", "Model 4, SAB, I, M"),
}
VARIANTS = {
    "baseline": "Model 1, baseline",
    "sab": "Model 2, SAB",
    "sab_i": "Model 3, + I",
    "sab_unit": "Model 2, `part_scale: unit`",
    "sab_i_unit": "Model 3, `part_scale: unit`",
    "sab_im_feb": "Model 5, + FEB",
    "pgfl_kd": "Model 6, PGFL-KD",
    "pgfl_kd_part_cl": "Table 7's variant",
    "pgfl_kd_literal": "Model 6, equations as printed",
    "baseline_4x16": "Model 1, batches of 4 x 16",
    "pgfl_kd_4x16": "Model 6, batches of 4 x 16",
    "pgfl_kd_flat": "Model 6, flat maps",
}


def tables():
    """The cells of the page's tables, row by row, table by table."""
    table = []
    for line in [*PAGE.splitlines(), ""]:
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split("|")])
        elif table:
            yield table
            table = []


def results():
    """{(stage, model): (mAP of seed 0 to 4, the same of new people)}, None where none was run."""
    by_seed = [table for table in tables() if "mean ± std" in table[0]]
    assert len(by_seed) == 2
    return {
        (stage, row[0]): tuple(
            [float(cell) if cell else None for cell in row[start : start + 5]] for start in (1, 7)
        )
        for stage, table in zip(("separate", "shared"), by_seed, strict=True)
        for row in table[2:]
    }


RESULTS = results()
RUNS = pd.read_csv(DOCS / "evidence.csv")
EXACT = {
    (("separate", VARIANTS[run.variant]), run.queries == "new people", run.seed): run.mAP
    for run in RUNS.itertuples()
}


def find(stage, name):
    """For both sets of queries, {seed: (mAP, whether unrounded)} of a model in the differences."""
    plain = name.removesuffix(" †")
    model = WHEREVER[name] if name in WHEREVER else (stage, NAMES[plain] + name[len(plain) :])
    return tuple(
        {
            seed: (EXACT.get((model, new, seed), printed), (model, new, seed) in EXACT)
            for seed, printed in enumerate(values)
            if printed is not None
        }
        for new, values in enumerate(RESULTS[model])
    )


def differences():
    """(stage, names, seeds, mAP, mAP of new people) of every row of differences."""
    (table,) = (table for table in tables() if table[0][1:2] == ["seeds"])
    stage = ""
    for name, seeds, here, _, new, _ in table[2:]:
        if name.startswith("**"):
            stage = name.strip("*")
        else:
            yield stage, name, int(seeds), here, new


def test_no_row_stands_in_another_table():
    for table in tables():
        assert {len(row) for row in table} == {len(table[0])}, table[0]


@pytest.mark.parametrize("start", [1, 7])
def test_means_and_deviations_are_those_of_the_seeds(start):
    count = 0
    for table in tables():
        if "mean ± std" not in table[0]:
            continue
        for row in table[2:]:
            values = [float(cell) for cell in row[start : start + 5] if cell]
            if len(values) > 1:
                mean, deviation = map(float, row[start + 5].split(" ± "))
                assert mean == pytest.approx(pd.Series(values).mean(), abs=0.11), row
                assert deviation == pytest.approx(pd.Series(values).std(), abs=0.11), row
                count += 1
    assert count > 10


@pytest.mark.parametrize(("stage", "name", "seeds", "here", "new"), list(differences()))
def test_differences_are_paired_over_the_seeds(stage, name, seeds, here, new):
    if stage == "separate - shared":
        plain = name.removesuffix(" †")
        old = f"{plain} †" if ("shared", f"{NAMES[plain]} †") in RESULTS else plain
        pairs = (find("separate", name), find("shared", old))
    else:
        pairs = tuple(find(stage, part) for part in name.split(" - "))
    for printed, ours, theirs in zip((here, new), *pairs, strict=True):
        both = sorted(ours.keys() & theirs.keys())
        assert len(both) == seeds
        steps = pd.Series([ours[seed][0] - theirs[seed][0] for seed in both])
        half = stats.t.ppf(0.975, seeds - 1) * steps.sem()
        mean, low, high = map(float, re.findall(r"[+-][\d.]+", printed))
        if all(one[seed][1] for one in (ours, theirs) for seed in both):
            slack = 0.051
        else:  # the page's cells are rounded
            slack = 0.11 + 0.05 * stats.t.ppf(0.975, seeds - 1)
        assert mean == pytest.approx(steps.mean(), abs=min(slack, 0.11))
        assert low == pytest.approx(steps.mean() - half, abs=slack)
        assert high == pytest.approx(steps.mean() + half, abs=slack)


def test_the_page_shows_the_runs_that_are_kept():
    assert len(RUNS) > 10
    for run in RUNS.itertuples():
        values = RESULTS["separate", VARIANTS[run.variant]][run.queries == "new people"]
        assert values[run.seed] == pytest.approx(run.mAP, abs=0.051), run
