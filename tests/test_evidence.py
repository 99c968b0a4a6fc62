"""The numbers of docs/evidence.md follow from one another, and from docs/evidence.csv."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
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
    "Model 1, baseline": "baseline",
    "Model 1, batches of 4 x 16": "baseline_4x16",
    "Model 2, SAB": "sab",
    "Model 3, + I": "sab_i",
    "Model 4, SAB, I, M": "sab_im",
    "Model 5, + FEB": "sab_im_feb",
    "Model 6, PGFL-KD": "pgfl_kd",
    "Model 6, flat maps": "pgfl_kd_flat",
    "Model 6, another image's maps": "pgfl_kd_shuffled",
    "Model 6, uniform attention": "pgfl_kd_uniform",
    "Model 6, true joints' maps": "pgfl_kd_true",
    "Model 2, `part_scale: unit`": "sab_unit",
    "Model 3, `part_scale: unit`": "sab_i_unit",
    "Model 4, `part_scale: unit`": "sab_im_unit",
    "Model 6, `part_scale: unit`": "pgfl_kd_unit",
    "Table 7's variant": "pgfl_kd_part_cl",
    "Model 6, equations as printed": "pgfl_kd_literal",
    "Model 6, batches of 4 x 16": "pgfl_kd_4x16",
}
"""The variant of each row of the tables of seeds, † or not."""
UNIT = {f"Model {n}": f"Model {n}, `part_scale: unit`" for n in (2, 3, 4)}
UNIT["PGFL-KD"] = "Model 6, `part_scale: unit`"


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
    """{(stage, model): (mAP per seed, the same of held-out identities)}, None where not run."""
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
RUNS = pd.read_csv(DOCS / "evidence.csv", keep_default_na=False, dtype={"mAP": str})


def model_of(run):
    """The page's (stage, model) of a row of the CSV."""
    (name,) = (name for name, variant in VARIANTS.items() if variant == run.variant)
    return run.second_layer4 or "separate", name + " †" * (run.before_repair == "yes")


CELLS = {
    (model_of(run), run.queries == "held-out", run.seed): run.mAP for run in RUNS.itertuples()
}
EXACT = {key: float(mAP) for key, mAP in CELLS.items() if len(mAP.partition(".")[2]) == 3}


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
    """(stage, names, seeds, mAP, mAP of held-out identities) of every row of differences."""
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


def test_the_page_and_the_csv_have_the_same_runs():
    shown = {
        (model, held_out, seed): mAP
        for model, both in RESULTS.items()
        for held_out, values in enumerate(both)
        for seed, mAP in enumerate(values)
        if mAP is not None
    }
    assert shown.keys() == CELLS.keys()
    assert len(CELLS) == len(RUNS) > 100
    for key, mAP in CELLS.items():
        assert shown[key] == pytest.approx(float(mAP), abs=0.051), key


def test_only_runs_whose_model_is_kept_are_unrounded():
    for run in RUNS.itertuples():
        kept = len(run.mAP.partition(".")[2]) == 3
        columns = (run.rank1, run.seconds, run.git_commit, run.model_sha256)
        assert all(columns) if kept else not any(columns), run


def test_the_csv_names_variants_that_there_are():
    presets = [ROOT / "workflow/variants.yaml", ROOT / "workflow/experiments/study.yaml"]
    there = {}
    for preset in presets:
        there |= yaml.safe_load(preset.read_text())["variants"]
    assert set(RUNS["variant"]) <= there.keys()
    for run in RUNS.itertuples():
        branches = there[run.variant]["method"] == "pgfl_kd"
        assert run.second_layer4 in (("separate", "shared") if branches else ("",)), run


def test_the_table_of_one_norm_repeats_the_table_of_seeds():
    (table,) = (table for table in tables() if table[2][0] == "Model 2, default")
    assert len(table) == 2 + 2 * len(UNIT)
    for row in table[2:]:
        label, setting = row[0].split(", ")
        model = UNIT[label] if setting == "unit" else NAMES[label]
        here, held_out = RESULTS["separate", model]
        assert list(map(float, row[1:])) == here[:3] + held_out[:3]


def test_the_table_of_first_readings_is_that_of_its_csv():
    (table,) = (table for table in tables() if "weight" in table[0])
    printed, last = [], []
    for model, *cells in table[2:]:
        *settings, seed, mAP, rank1 = cells
        if model or any(settings):  # otherwise another seed of the row above
            last = [model or last[0], *settings]
        printed.append([*last, seed, mAP, rank1])
    runs = pd.read_csv(DOCS / "evidence_first_readings.csv", keep_default_na=False, dtype=str)
    kept = runs.to_numpy().tolist()
    kept[0][0] = "baseline, its loss times three"
    assert printed == kept


FINDINGS = dict(re.findall(r"^## (\d+)\. .*\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE))


def test_each_finding_is_one_paragraph_and_one_picture():
    assert list(FINDINGS) == [str(number) for number in range(1, len(FINDINGS) + 1)]
    shown = []
    for text in FINDINGS.values():
        claim, picture = text.strip().split("\n\n")
        assert claim.startswith("**")
        shown += re.fullmatch(r"!\[[^]]+\]\(images/(evidence_\w+\.png)\)", picture).groups()
    assert sorted(shown) == sorted(path.name for path in (DOCS / "images").glob("evidence_*.png"))


def test_the_page_is_short_before_its_tables():
    assert len(PAGE.partition("\n|")[0].split()) <= 2500


def test_intervals_in_the_text_are_those_of_the_table():
    """A difference may be told from either side."""
    text = "\n".join(line for line in PAGE.splitlines() if not line.startswith("|"))
    number = r"([+-]?\d+\.\d)(?!\d)"
    told = re.findall(rf"(?<![\d.]){number}\s+to\s+{number}", text)
    printed = set()
    for table in tables():
        for cell in (cell for row in table for cell in row):
            for low, high in re.findall(rf"\({number} to {number}", cell):
                printed |= {(float(low), float(high)), (-float(high), -float(low))}
    assert len(told) > 40
    assert {(float(low), float(high)) for low, high in told} <= printed


def test_links_within_the_page_have_a_heading():
    headings = re.findall(r"^#+ (.*)", PAGE, re.MULTILINE)
    there = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    linked = re.findall(r"\]\(#([^)]+)\)", PAGE)
    assert linked
    assert set(linked) <= there
