import json

import numpy as np
import pandas as pd
import pytest

from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError
from pgfl.retrieval import evaluate
from pgfl.retrieval.embed import embed
from pgfl.retrieval.stage import RUN_KEYS, chance, run_evaluation
from pgfl.runtime.files import file_hash

OPTIONS = {"metric": "cosine", "feature": "after_bnneck", "batch_size": 3}


@pytest.fixture(scope="module")
def report(model_file, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("eval") / "eval" / "partial_reid.json"
    report = run_evaluation(model_file, data, out, **OPTIONS)
    assert json.loads(out.read_text()) == report
    return report


def test_the_report_counts_what_was_compared(report):
    assert report["counts"] == {
        "query": 4,
        "valid_query": 3,
        "gallery": 8,
        "query_identities": 4,
        "gallery_identities": 5,
    }


def test_the_report_says_what_was_compared(report, model_file, data):
    assert report["metric"] == "cosine" and report["feature"] == "after_bnneck"
    assert report["model_sha256"] == file_hash(model_file)
    assert report["manifest_sha256"] == file_hash(data)


def test_the_report_says_what_it_is_of(report, model_file, data, tmp_path):
    """And nothing else changes by it."""
    values = ("market1501", "partial_reid", "pgfl_kd", "pgfl_kd", 3)
    run = dict(zip(RUN_KEYS, values, strict=True))
    found = run_evaluation(model_file, data, tmp_path / "out.json", **OPTIONS, run=run)
    assert found == run | report and not report.keys() & RUN_KEYS
    assert json.loads((tmp_path / "out.json").read_text()) == found


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("feature", ["after_bnneck", "before_bnneck"])
def test_the_numbers_are_those_of_the_features(
    student, model_file, data, tmp_path, metric, feature
):
    found = run_evaluation(
        model_file, data, tmp_path / "out.json", metric=metric, feature=feature, batch_size=3
    )
    splits = [read_manifest(data, split) for split in ("query", "gallery")]
    features = [
        embed(
            *student, data.parent, t["image"], after_norm=feature == "after_bnneck", batch_size=3
        )
        for t in splits
    ]
    ids = [t[column].to_numpy() for column in ("pid", "camid") for t in splits]
    expected = evaluate(*features, *ids, metric=metric)
    assert found["mAP"] == expected.mAP
    assert {rank: found[f"rank{rank}"] for rank in (1, 3, 5, 10)} == expected.cmc


def test_chance_is_what_guessing_reaches():
    # One match among four for each of many queries: a quarter of them come first.
    count = 400
    query = pd.DataFrame({"pid": np.zeros(count, int), "camid": np.zeros(count, int)})
    gallery = pd.DataFrame({"pid": [0, 1, 2, 3], "camid": [1, 1, 1, 1]})
    found = chance({"query": query, "gallery": gallery}, "manifest.csv")
    assert found["rank1"] == pytest.approx(25, abs=5)
    assert found["mAP"] == pytest.approx(100 * (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, abs=4)


def test_the_report_carries_its_chance(report, data):
    splits = {split: read_manifest(data, split) for split in ("query", "gallery")}
    assert report["chance"] == chance(splits, data)
    assert 0 < report["chance"]["mAP"] < 100


def test_a_test_set_without_any_match_is_an_error(model_file, data, tmp_path):
    table = pd.read_csv(data)
    table["image"] = [str(data.parent / name) for name in table["image"]]
    table.loc[table["split"] == "gallery", "pid"] += 100
    manifest = tmp_path / "manifest.csv"
    table.to_csv(manifest, index=False)
    with pytest.raises(
        UserError, match=r"manifest.csv: cannot be evaluated: no query has a match"
    ):
        run_evaluation(model_file, manifest, tmp_path / "out.json", **OPTIONS)
    assert not (tmp_path / "out.json").exists()


def test_a_manifest_without_queries_is_an_error(model_file, data, tmp_path):
    table = pd.read_csv(data)
    table[table["split"] == "gallery"].to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(UserError, match="no row of split 'query'"):
        run_evaluation(model_file, tmp_path / "manifest.csv", tmp_path / "out.json", **OPTIONS)
