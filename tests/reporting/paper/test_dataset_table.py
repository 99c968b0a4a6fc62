import csv
import hashlib
import json

import pytest

from pgfl.datasets.registry import DATASETS
from pgfl.errors import UserError
from pgfl.reporting.paper.dataset_table import published_counts, write_dataset_table
from pgfl.reporting.trace import follow

SPLITS = ("train", "gallery", "query")


@pytest.fixture
def manifests(tmp_path):
    """Manifests (of names only) with exactly the published numbers of every data set."""
    files = {}
    for row in published_counts().to_dict("records"):
        folder = tmp_path / row["dataset"]
        folder.mkdir()
        lines = ["image,split,pid,camid"]
        for split in SPLITS:
            ids, images = (int(row[f"{split}.{what}"] or 0) for what in ("ids", "images"))
            # Market-1501's published gallery holds distractors and junk.
            extra = 6617 if (row["dataset"], split) == ("market1501", "gallery") else 0
            lines += [f"{split}{i}.jpg,{split},{1 + i % ids},1" for i in range(images - extra)]
            lines += [f"distractor{i}.jpg,gallery,0,1" for i in range(2798 if extra else 0)]
        files[row["dataset"]] = folder / "manifest.csv"
        files[row["dataset"]].write_text("\n".join(lines) + "\n")
        junk = {"gallery": 3819} if row["dataset"] == "market1501" else {}
        (folder / "counts.json").write_text(json.dumps({"junk": junk}))
    return files


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_no_published_cell_has_changed_since_all_were_compared_with_the_papers():
    text = published_counts().head(7).to_csv(index=False, lineterminator="\n")
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "7fa3b347f2325763"


def test_the_published_numbers_agree_with_themselves(tmp_path, manifests):
    write_dataset_table(manifests, "paper", tmp_path / "table1.csv")
    rows = rows_of(tmp_path / "table1.csv")
    assert [row["source"] for row in rows] == ["published", "reproduced"] * len(DATASETS)
    assert all(row["agrees"] == "yes" for row in rows[1::2])
    market = rows[1]
    assert (market["gallery.ids"], market["gallery.images"]) == ("750", "19732")
    assert (market["distractors"], market["junk"]) == ("2798", "3819")
    assert "Not the paper's experiment" not in (tmp_path / "table1.md").read_text()
    assert (
        f"{len(DATASETS)} entries from {2 * len(DATASETS)} files"
        in follow(tmp_path / "table1.csv")[0]
    )


def test_a_mismatch_is_seen(tmp_path, manifests):
    path = manifests["partial_reid"]
    path.write_text(path.read_text().replace("query0.jpg,query", "query0.jpg,gallery"))
    write_dataset_table(manifests, "demo", tmp_path / "table1.csv")
    found = {row["method"]: row for row in rows_of(tmp_path / "table1.csv")[1::2]}
    assert found["Partial-REID"]["agrees"] == "no"
    assert found["Partial-REID"]["gallery.images"] == "301"
    assert found["Partial-iLIDS"]["agrees"] == "yes"
    assert "Not the paper's experiment" in (tmp_path / "table1.md").read_text()


def test_missing_counts_are_named(tmp_path, manifests):
    manifests["occluded_duke"].with_name("counts.json").unlink()
    with pytest.raises(UserError, match=r"occluded_duke/counts\.json: no such file"):
        write_dataset_table(manifests, "demo", tmp_path / "table1.csv")
    assert not (tmp_path / "table1.csv").exists()


@pytest.mark.parametrize("counts", ["{}", "[]", '{"junk": {"query": "x"}}', '{"junk": [1]}'])
def test_counts_that_say_nothing_of_junk_are_named(tmp_path, manifests, counts):
    manifests["occluded_duke"].with_name("counts.json").write_text(counts)
    with pytest.raises(UserError, match=r"occluded_duke/counts\.json: does not say how much junk"):
        write_dataset_table(manifests, "demo", tmp_path / "table1.csv")


def test_a_data_set_that_is_not_given_is_named(tmp_path, manifests):
    del manifests["partial_ilids"]
    with pytest.raises(UserError, match="no manifest of partial_ilids is given"):
        write_dataset_table(manifests, "demo", tmp_path / "table1.csv")


def test_a_data_set_that_is_left_out_is_marked_and_keeps_its_published_row(tmp_path, manifests):
    write_dataset_table(manifests, "paper", tmp_path / "table1.csv")
    whole = rows_of(tmp_path / "table1.csv")
    del manifests["market1501"]
    missing = {"market1501": ["Market-1501-v15.09.15.zip"]}
    write_dataset_table(manifests, "paper", tmp_path / "table1.csv", missing)
    rows, text = rows_of(tmp_path / "table1.csv"), (tmp_path / "table1.md").read_text()
    assert list(rows[0]) == list(whole[0]) and rows[:1] + rows[2:] == whole[:1] + whole[2:]
    words = {name: value for name, value in rows[1].items() if value}
    assert words == {"method": "Market-1501", "source": "reproduced", "experiment": "paper"}
    assert "| Market-1501 | reproduced | – | – | – |" in text
    # A test-only set has no training images, which is nothing to be marked.
    assert "| Partial-REID | reproduced |  |  | 60 |" in text
    assert text.endswith(
        "–: left out, since files are missing: Market-1501 (Market-1501-v15.09.15.zip).\n"
    )
    left = len(DATASETS) - 1
    assert f"{left} entries from {2 * left} files" in follow(tmp_path / "table1.csv")[0]
