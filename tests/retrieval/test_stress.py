import numpy as np
import pandas as pd
import pytest
import torch

from pgfl.datasets.images import read_image, resized
from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError
from pgfl.retrieval import evaluate
from pgfl.retrieval.embed import embed
from pgfl.retrieval.obstacles import SIDES, covered
from pgfl.retrieval.stage import run_evaluation
from pgfl.retrieval.stress import covers, stress


def test_each_share_is_tried_from_each_side_and_nothing_once():
    assert covers([0.5, 0, 0.25]) == [
        (0.0, "none"),
        *((0.25, side) for side in SIDES),
        *((0.5, side) for side in SIDES),
    ]


@pytest.mark.parametrize("after_norm", [True, False])
def test_each_row_is_an_evaluation_of_covered_images(student, model_file, data, after_norm):
    """One image at a time, with nothing shared between the covers."""
    table = stress(model_file, data, [0, 0.4], metric="euclidean", after_norm=after_norm)
    query, gallery = (read_manifest(data, split) for split in ("query", "gallery"))
    names = list(gallery["image"])
    theirs = embed(*student, data.parent, names, after_norm=after_norm)
    ids = [t[column].to_numpy() for column in ("pid", "camid") for t in (query, gallery)]
    assert len(table) == 5
    for row in table.itertuples():
        features = []
        for name in query["image"]:
            image = read_image(data.parent / name)
            if row.covered > 0:
                image = covered(image, row.covered, row.side, name)
            batch = torch.from_numpy(resized(image, 64, 32)[None])
            with torch.inference_mode():
                features.append(student[0](batch, after_norm)[0].numpy())
        expected = evaluate(np.stack(features), theirs, *ids, metric="euclidean")
        assert row.mAP == pytest.approx(expected.mAP) and row.rank1 == expected.cmc[1]
        assert (row.queries, row.gallery) == (3, 8)


def test_with_nothing_covered_it_is_the_evaluation(model_file, data, tmp_path):
    options = {"metric": "cosine", "feature": "after_bnneck", "batch_size": 4}
    report = run_evaluation(model_file, data, tmp_path / "x.json", **options)
    table = stress(model_file, data, [], batch_size=1)
    assert len(table) == 1
    assert table["mAP"][0] == pytest.approx(report["mAP"])
    assert table["rank1"][0] == report["rank1"]


def test_a_test_set_without_a_match_is_said(model_file, data, tmp_path):
    table = pd.read_csv(data)
    table["image"] = [str(data.parent / name) for name in table["image"]]
    table.loc[table["split"] == "gallery", "pid"] += 100
    table.to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(UserError, match=r"manifest\.csv: cannot be evaluated: no query has"):
        stress(model_file, tmp_path / "manifest.csv", [0.5])
