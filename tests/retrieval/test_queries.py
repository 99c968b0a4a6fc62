"""What is noted of each query against a ranking by plain sorting."""

import json

import numpy as np
import pandas as pd
import pytest

from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError
from pgfl.nn.embedding import Embedding
from pgfl.reporting.more.outcomes import read_queries
from pgfl.retrieval.embed import embed
from pgfl.retrieval.parts import embedding_blocks
from pgfl.retrieval.queries import rank_queries, write_queries
from pgfl.retrieval.rerank import reranked_blocks
from pgfl.retrieval.stage import run_evaluation


def split(name, pids, camids):
    images = [f"{name}/{place}.jpg" for place in range(len(pids))]
    return pd.DataFrame({"image": images, "pid": pids, "camid": camids})


@pytest.fixture
def case():
    """Features with ties, three cameras, and a query without a match."""
    rng = np.random.default_rng(3)
    features = {
        "query": rng.integers(-2, 3, (9, 4)).astype(np.float32),
        "gallery": rng.integers(-2, 3, (40, 4)).astype(np.float32),
    }
    features["query"][:, 0] = features["gallery"][:, 0] = 1  # nothing of length zero
    splits = {
        "query": split("q", [*rng.integers(0, 4, 8), 99], rng.integers(0, 3, 9)),
        "gallery": split("g", rng.integers(0, 4, 40), rng.integers(0, 3, 40)),
    }
    return features, splits


def cosines(query, gallery):
    return np.array(
        [[q @ g / np.linalg.norm(q) / np.linalg.norm(g) for g in gallery] for q in query]
    )


def ranked_by_sorting(distances, splits):
    """For each query: its AP, first hit, and the gallery rows in order."""
    gallery = splits["gallery"]
    found = []
    for row, query in zip(distances, splits["query"].itertuples(), strict=True):
        order = [
            place
            for place in np.argsort(row, kind="stable")
            if (gallery.pid[place], gallery.camid[place]) != (query.pid, query.camid)
        ]
        hits = [rank for rank, at in enumerate(order, 1) if gallery.pid[at] == query.pid]
        precisions = [number / rank for number, rank in enumerate(hits, 1)]
        found.append(
            (100 * np.mean(precisions) if hits else None, hits[0] if hits else None, order)
        )
    return found


@pytest.mark.parametrize("kind", ["cosine", "euclidean", "rerank"])
def test_rows_are_what_sorting_gives(case, kind):
    features, splits = case
    if kind == "rerank":
        distances = np.concatenate([b.copy() for b in reranked_blocks(*features.values())])
        table = rank_queries(features, splits, rerank=True)
    elif kind == "euclidean":
        products = features["query"] @ features["gallery"].T
        distances = (features["gallery"] ** 2).sum(axis=1) - 2 * products
        table = rank_queries(features, splits, metric="euclidean")
    else:
        # Whole numbers of one direction would be equally near up to rounding only.
        pool = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
        features["gallery"] = pool[np.arange(40) % 12]
        distances = -cosines(*features.values())
        table = rank_queries(features, splits)
    expected = ranked_by_sorting(distances, splits)
    alike = cosines(*features.values())
    assert list(table["image"]) == list(splits["query"]["image"])
    for query, (precision, first, order) in enumerate(expected):
        row = table.iloc[query]
        if precision is None:
            assert np.isnan(row["AP"]) and pd.isna(row["first_hit"])
        else:
            assert row["AP"] == pytest.approx(precision) and row["first_hit"] == first
        for place, at in enumerate(order[:10], 1):
            assert row[f"top{place}"] == f"g/{at}.jpg"
            assert row[f"score{place}"] == pytest.approx(alike[query, at], abs=1e-6)


@pytest.mark.parametrize("rerank", [False, True])
def test_several_vectors_are_ranked_and_scored_by_their_parts(case, rerank):
    _, splits = case
    rng = np.random.default_rng(1)
    features = {
        name: Embedding(
            rng.standard_normal((count, 3, 4)).astype(np.float32),
            (rng.random((count, 3)) * (rng.random((count, 3)) > 0.4)).astype(np.float32),
        )
        for name, count in (("query", 9), ("gallery", 40))
    }
    rank = reranked_blocks if rerank else embedding_blocks
    blocks = rank(*features.values(), metric="cosine")
    distances = np.concatenate([block.copy() for block in blocks])
    table = rank_queries(features, splits, rerank=rerank)
    for query, (precision, first, order) in enumerate(ranked_by_sorting(distances, splits)):
        row = table.iloc[query]
        if precision is not None:
            assert row["AP"] == pytest.approx(precision) and row["first_hit"] == first
        for place, at in enumerate(order[:10], 1):
            mine, theirs = (
                (one.vectors[i].astype(float), one.visibility[i].astype(float))
                for one, i in ((features["query"], query), (features["gallery"], at))
            )
            weights = mine[1] * theirs[1]
            alike = np.diag(cosines(mine[0], theirs[0]))
            score = weights @ alike / weights.sum() if weights.any() else -1
            assert row[f"top{place}"] == f"g/{at}.jpg"
            assert row[f"score{place}"] == pytest.approx(score, abs=1e-6)


def test_equal_images_keep_the_gallerys_order(case):
    features, splits = case
    features["gallery"][:] = 1
    table = rank_queries(features, splits)
    expected = ranked_by_sorting(np.zeros((9, 40)), splits)
    for row, (_, _, order) in zip(table.itertuples(), expected, strict=True):
        named = [getattr(row, f"top{place}") for place in range(1, 11)]
        assert named == [f"g/{at}.jpg" for at in order[:10]]


def test_a_small_gallery_leaves_places_empty_and_the_file_gives_it_back(tmp_path):
    features = {"query": np.eye(2, dtype=np.float32), "gallery": np.eye(2, dtype=np.float32)}
    splits = {"query": split("q", [1, 2], [0, 0]), "gallery": split("g", [1, 2], [0, 1])}
    table = rank_queries(features, splits)
    write_queries(table, tmp_path / "queries.csv")
    back = read_queries(tmp_path / "queries.csv")
    # The first query's only image of its person is junk.
    assert np.isnan(back["AP"][0]) and pd.isna(back["first_hit"][0])
    assert list(back.loc[0, ["top1", "top2"]]) == ["g/1.jpg", ""]
    assert np.isnan(back["score2"][0]) and back["score1"][0] == 0
    assert (back["AP"][1], back["first_hit"][1]) == (100, 1)
    assert list(back.loc[1, ["top1", "top2"]]) == ["g/1.jpg", "g/0.jpg"]
    assert "top3" not in back


@pytest.mark.parametrize("rerank", [False, True])
def test_the_mean_over_the_file_is_the_evaluations_own_number(
    student, model_file, data, tmp_path, rerank
):
    queries = tmp_path / "set.queries.csv"
    report = run_evaluation(
        model_file,
        data,
        tmp_path / "set.json",
        metric="cosine",
        feature="after_bnneck",
        batch_size=3,
        rerank=rerank,
        queries=queries,
    )
    assert json.loads((tmp_path / "set.json").read_text()) == report
    table = read_queries(queries)
    valid = table["AP"].notna()
    assert table["AP"].mean() == pytest.approx(report["mAP"], abs=1e-12)
    for rank in (1, 3, 5, 10):
        share = 100 * (table["first_hit"][valid] <= rank).mean()
        assert share == pytest.approx(report[f"rank{rank}"])
    assert valid.sum() == report["counts"]["valid_query"]
    splits = [read_manifest(data, name) for name in ("query", "gallery")]
    query, gallery = (embed(*student, data.parent, list(t["image"])) for t in splits)
    place = list(splits[1]["image"]).index(table["top1"][0])
    assert table["score1"][0] == pytest.approx(cosines(query[:1], gallery)[0, place], abs=1e-4)


def test_another_file_is_said(tmp_path):
    (tmp_path / "x.csv").write_text("image,AP\na,1\n")
    with pytest.raises(UserError, match=r"x\.csv: column first_hit is missing; evaluate"):
        read_queries(tmp_path / "x.csv")
