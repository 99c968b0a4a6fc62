import json

import numpy as np
import pytest
from typer.testing import CliRunner

from pgfl.cli.main import app
from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError
from pgfl.nn.embedding import Embedding
from pgfl.reporting.more.outcomes import read_queries
from pgfl.retrieval import evaluate
from pgfl.retrieval.embed import embed
from pgfl.retrieval.foreign import read_foreign, score_features
from pgfl.retrieval.stage import run_evaluation


@pytest.fixture
def made(data, student):
    """What our own student says of every image, in another order, with one image more."""
    model, settings = student
    names = [*read_manifest(data)["image"]][::-1]
    features = embed(model, settings, data.parent, names)
    return [*names, "somewhere/else.png"], np.vstack([features, np.ones_like(features[:1])])


def npz(path, names, features, **more):
    np.savez(path, names=np.array(names), features=features, **more)
    return path


@pytest.mark.parametrize(
    "written",
    [
        lambda name: name,
        lambda name: f"./{name}",
        lambda name: f"/home/me/crops/{name}",
        lambda name: f"C:\\crops\\{name}",
    ],
)
@pytest.mark.parametrize("rerank", [False, True])
def test_our_own_features_score_as_our_student(made, data, model_file, tmp_path, written, rerank):
    names, features = made
    path = npz(tmp_path / "f.npz", [written(name) for name in names], features)
    options = {"metric": "euclidean", "rerank": rerank}
    queries = tmp_path / "q.csv"
    run = {"variant": "theirs", "seed": 3}
    found = score_features(path, data, tmp_path / "e.json", queries=queries, run=run, **options)
    ours = run_evaluation(
        model_file, data, tmp_path / "o.json", feature="after_bnneck", batch_size=3, **options
    )
    same = ("rank1", "rank10", "mAP", "counts", "chance", "metric", "rerank", "manifest_sha256")
    assert {key: found[key] for key in same} == {key: ours[key] for key in same}
    assert (found["variant"], found["method"], found["seed"]) == ("theirs", "foreign", 3)
    assert json.loads((tmp_path / "e.json").read_text()) == found
    assert read_queries(queries)["AP"].mean() == pytest.approx(found["mAP"])


def test_a_npy_comes_with_a_list_of_names(made, data, tmp_path):
    names, features = made
    np.save(tmp_path / "f.npy", features.astype(np.float16))
    (tmp_path / "names.txt").write_text("\n".join(names) + "\n")
    arguments = [
        "score",
        str(tmp_path / "f.npy"),
        str(data),
        "--names",
        str(tmp_path / "names.txt"),
    ]
    arguments += ["--out", str(tmp_path / "e.json"), "--variant", "osnet", "--threads", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "e.json").read_text())
    assert report["variant"] == "osnet" and f"mAP {report['mAP']:.1f}" in result.stdout
    path = npz(tmp_path / "f.npz", names, features.astype(np.float16))
    assert score_features(path, data, tmp_path / "o.json")["mAP"] == report["mAP"]


def test_parts_count_as_far_as_they_are_seen(data, tmp_path):
    rng = np.random.default_rng(0)
    names = list(read_manifest(data)["image"])
    vectors = rng.standard_normal((len(names), 3, 5), dtype=np.float32)
    seen = rng.random((len(names), 3), dtype=np.float32)
    path = npz(tmp_path / "f.npz", names, vectors, visibility=seen)
    found = score_features(path, data, tmp_path / "e.json")
    splits = [read_manifest(data, split) for split in ("query", "gallery")]
    rows = [[names.index(image) for image in table["image"]] for table in splits]
    ids = [table[column].to_numpy() for column in ("pid", "camid") for table in splits]
    expected = evaluate(*(Embedding(vectors[some], seen[some]) for some in rows), *ids)
    assert found["mAP"] == expected.mAP


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda n, f: (n[2:], f[2:]),
            r"f\.npz: no features of '11\.png', '10\.png'|'10\.png', '11",
        ),
        (lambda n, f: ([n[0], *n], np.vstack([f[:1], f])), r"f\.npz: more than one feature of"),
        (lambda n, f: (n[:-1], f), r"f\.npz: cannot be used: 12 names for 13 features"),
        (lambda n, f: (n, f[:, 0]), r"f\.npz: cannot be used: features are float32 \(13,\), not"),
        (
            lambda n, f: (n, f.astype(int)),
            r"features are int64 \(13, 512\), not \(N, c\) of floats",
        ),
        (lambda n, f: (n, f * np.nan), "NaN or infinity"),
    ],
)
def test_what_cannot_be_scored_is_one_line_and_nothing_is_written(
    made, data, tmp_path, change, message
):
    path = npz(tmp_path / "f.npz", *change(*made))
    with pytest.raises(UserError, match=message) as caught:
        score_features(path, data, tmp_path / "e.json")
    assert "\n" not in str(caught.value) and not (tmp_path / "e.json").exists()


def test_a_file_with_objects_in_it_is_refused(tmp_path):
    np.savez(tmp_path / "f.npz", names=np.array([{}], object), features=np.ones((1, 2)))
    with pytest.raises(UserError, match=r"f\.npz: cannot be used: Object arrays cannot be loaded"):
        read_foreign(tmp_path / "f.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"names": np.array(["a"])}, r"f\.npz: has no array 'features"),
        ({"features": np.ones((1, 2))}, r"f\.npz: has no array 'names"),
    ],
)
def test_an_array_that_is_missing_is_named(tmp_path, arrays, message):
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(UserError, match=message):
        read_foreign(tmp_path / "f.npz")


def test_names_go_with_a_npy_only(tmp_path):
    with pytest.raises(UserError, match=r"f\.npy: give --names with a \.npy, and only with one"):
        read_foreign(tmp_path / "f.npy")
    with pytest.raises(UserError, match="give --names with a"):
        read_foreign(tmp_path / "f.npz", tmp_path / "names.txt")
    with pytest.raises(UserError, match=r"f\.npz: cannot be used: .*No such file"):
        read_foreign(tmp_path / "f.npz")
