"""A data set is added as docs/developing.md says: only its own jobs are planned, and they run."""

import re
from pathlib import Path

import pandas as pd

DOCS = Path(__file__).resolve().parents[2] / "docs"
NAME = "gate"


def example():
    """The module that the page shows."""
    text = "\n".join(page.read_text() for page in sorted(DOCS.glob("developing*.md")))
    (found,) = re.findall(r'^```python\n(""".*?\n)```$', text, re.MULTILINE | re.DOTALL)
    return found


def add_data_set(project):
    """Write the example's module, and its line in the registry."""
    folder = project.root / "pgfl/datasets"
    (folder / f"{NAME}.py").write_text(example())
    registry = folder / "registry.py"
    before = registry.read_text()
    registry.write_text(before.replace("NAMES = (\n", f'NAMES = (\n    "{NAME}",\n', 1))
    assert registry.read_text() != before


def test_only_its_own_jobs_are_planned_and_its_layout_is_read(touched):
    add_data_set(touched)
    planned = set(touched.planned())
    table = {f"results/table1.{kind}" for kind in ("csv", "md", "trace.json")}
    shared = {name for name in planned if NAME not in name.lower()}
    assert shared == table | {"results/report.html"}
    runs = {f"runs/demo/{NAME}/{variant}/seed0" for variant in ("baseline", "pgfl_kd")}
    assert planned >= {
        "data/demo/archives/Gate-v1.zip",
        *(f"data/demo/{NAME}/{file}" for file in ("images", "manifest.csv", "counts.json")),
        f"cache/demo/heatmaps/{NAME}/train.h5",
        *(f"{run}/{file}" for run in runs for file in ("model.safetensors", f"eval/{NAME}.json")),
        f"results/ranked_lists/{NAME}.png",
    }
    touched.snakemake("--cores", "1", f"data/demo/{NAME}/manifest.csv")
    rows = pd.read_csv(touched.root / f"data/demo/{NAME}/manifest.csv")
    assert rows[rows.split == "train"].pid.nunique() == 5
    assert set(rows.camid) == {1, 2} and rows.image.str.endswith(".png").all()


def test_an_edit_of_one_data_set_makes_no_other_again(touched):
    path = touched.root / "pgfl/datasets/occluded_reid.py"
    path.write_text(path.read_text().replace("range(1, 6)", "range(1, 5)"))
    data = {name for name in touched.planned() if name.startswith("data/")}
    archive = "data/demo/archives/Occluded_REID.zip"
    files = {f"data/demo/occluded_reid/{file}" for file in ("images", "manifest.csv")}
    counts = "data/demo/occluded_reid/counts.json"
    assert data == {archive, f"{archive}.joints.npz", *files, counts}
