"""Table 1: the data sets, as published and as found on disk."""

from pathlib import Path

import pandas as pd

from pgfl.datasets.manifest import read_manifest
from pgfl.datasets.registry import DATASETS
from pgfl.errors import UserError
from pgfl.reporting.outputs import Outputs
from pgfl.reporting.paper.numbers import dataset_name
from pgfl.reporting.paper.summary import NOT_MEASURED, LeftOut, left_out_note
from pgfl.reporting.paper.tables import data_warning, save_table
from pgfl.reporting.trace import Cell, save_trace
from pgfl.runtime.files import read_json

SPLITS = ("train", "gallery", "query")
TITLE = "The data sets: identities and images of each split"
NOTE = (
    "`published`: as printed in the paper; `reproduced`: counted on disk. As in the paper, "
    "identities leave distractors out and images leave nothing out; `junk` (pid -1) is never "
    "ranked, `distractors` (pid 0 of Market-1501) are. `agrees` compares the two rows."
)


def published_counts() -> pd.DataFrame:
    """Table 1 as printed, as text: `method`, `dataset`, `{split}.ids`, `{split}.images`."""
    rows = []
    for name, data in DATASETS.items():
        row, counts = {"method": data.title, "dataset": name}, data.printed_counts()
        for split in SPLITS:
            ids, images = counts.get(split, ("", ""))
            row |= {f"{split}.ids": str(ids), f"{split}.images": str(images)}
        rows.append(row)
    return pd.DataFrame(rows)


def write_dataset_table(
    manifests: dict[str, Path],
    experiment: str,
    out: Path | Outputs,
    left_out: LeftOut | None = None,
) -> None:
    """Write `table1.csv`, its Markdown and its trace.

    Args:
        manifests: `manifest.csv` of each shipped data set; `counts.json` lies beside it.
        experiment: the experiment they are from.
        out: the CSV; the others lie beside it unless they are named.
        left_out: data sets without a manifest, whose cells stay empty, and their missing files.

    Raises:
        UserError: a manifest is missing, or it or its counts cannot be read.
    """
    left_out = left_out or {}
    published = published_counts()
    for dataset in published["dataset"]:
        if dataset not in manifests and dataset not in left_out:
            raise UserError(f"no manifest of {dataset} is given")
    numbers = list(published.columns[2:])
    nothing = dict.fromkeys([*numbers, "distractors", "junk", "agrees"], "")
    rows, cells = [], []
    for line in published.to_dict("records"):
        name, dataset = line.pop("method"), line.pop("dataset")
        rows.append({"method": name, "source": "published", **line})
        if dataset in left_out:
            ours = {"method": name, "source": "reproduced"}
            rows.append(ours | nothing | {"experiment": experiment})
            continue
        found = _found(manifests[dataset])
        agrees = all(line[number] == found[number] for number in numbers)
        rows.append(
            {
                "method": name,
                "source": "reproduced",
                **found,
                "agrees": "yes" if agrees else "no",
                "experiment": experiment,
            }
        )
        counted = (manifests[dataset], manifests[dataset].with_name("counts.json"))
        cells.append(Cell(name, "all numbers", "", counted))
    table = pd.DataFrame(rows).fillna("")
    shown = table.copy()
    empty = table["method"].isin(map(dataset_name, left_out)) & (table["source"] == "reproduced")
    shown.loc[empty, list(nothing)] = NOT_MEASURED
    heading = f"# Table 1: {TITLE}\n\n{data_warning(experiment)}{NOTE}\n\n"
    ending = f"\n{left_out_note(left_out)}\n" if left_out else ""
    files = Outputs.of(out)
    save_table(table, files, heading, ending=ending, shown=shown)
    save_trace(files.trace, [files.main, files.markdown], experiment, cells)


def _found(manifest: Path) -> dict[str, str]:
    """The numbers of one data set, as text; empty where it has no such split."""
    table = read_manifest(manifest)
    junk = _junk(manifest.with_name("counts.json"))
    found: dict[str, str] = {}
    for split in SPLITS:
        rows = table[table["split"] == split]
        images = len(rows) + junk.get(split, 0)
        found[f"{split}.ids"] = str(rows["pid"][rows["pid"] > 0].nunique()) if images else ""
        found[f"{split}.images"] = str(images) if images else ""
    found["distractors"] = str((table["pid"] == 0).sum())
    found["junk"] = str(sum(junk.values()))
    return found


def _junk(file: Path) -> dict[str, int]:
    """How many junk images each split has."""
    content = read_json(file)
    junk = content.get("junk") if isinstance(content, dict) else None
    if not isinstance(junk, dict) or not all(type(count) is int for count in junk.values()):
        raise UserError(f"{file}: does not say how much junk there is; write the manifest again")
    return junk
