import json
import shutil
from pathlib import Path

import pytest

from pgfl.errors import UserError
from pgfl.reporting.paper.tables import write_table
from pgfl.reporting.trace import Cell, follow, save_trace

TABLE = Path("results/table6.csv")
RUN = Path("runs/demo/occluded_duke/sab_i/seed1")


@pytest.fixture
def written(make_evaluations):
    """Table 6 of made-up runs with two seeds."""
    write_table(6, make_evaluations(6), "demo", TABLE)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_every_reproduced_number_leads_to_its_models(written):
    lines = follow(TABLE)
    assert lines[0] == "results/table6.csv: as recorded; 12 entries from 12 models"
    start = lines.index("3 (MB+SAB w/ I), occluded_duke.mAP: 23.2")
    folder = "runs/demo/occluded_duke/sab_i"
    assert lines[start + 1 : start + 3] == [
        f"    seed 0: 23.00  {folder}/seed0/model.safetensors  commit c0ffee  device cpu",
        f"    seed 1: 23.50  {folder}/seed1/model.safetensors  commit c0ffee  device cpu",
    ]
    assert len(lines) == 1 + 12 * 3


@pytest.mark.parametrize("name", ["table6.md", "table6.trace.json"])
def test_the_markdown_or_the_trace_itself_will_do(written, name):
    assert follow(TABLE.with_name(name))[1:] == follow(TABLE)[1:]


def test_the_trace_holds_hashes_and_names_for_other_programs(written):
    trace = json.loads(TABLE.with_suffix(".trace.json").read_text())
    assert trace["experiment"] == "demo" and set(trace["results"]) == {"table6.csv", "table6.md"}
    known = trace["sources"][f"{RUN}/eval/occluded_duke.json"]
    assert (known["train"], known["variant"], known["seed"]) == ("occluded_duke", "sab_i", 1)
    assert len(known["sha256"]) == len(known["model_sha256"]) == 64


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda: edit(TABLE, "52.7", "52.8"),
            "results/table6.csv: changed since it was written; delete it and make it again",
        ),
        (lambda: TABLE.with_suffix(".md").unlink(), "results/table6.md: no such file"),
        (
            lambda: edit(RUN / "eval/occluded_duke.json", "23.5", "63.5"),
            f"{RUN}/eval/occluded_duke.json: changed since the table or figure was made of it",
        ),
        (
            lambda: (RUN / "eval/occluded_duke.json").unlink(),
            f"{RUN}/eval/occluded_duke.json: no such file (is this the project's folder?)",
        ),
        (
            lambda: (RUN / "model.safetensors").write_text("another"),
            f"{RUN}/model.safetensors: is not the model that {RUN}/eval/occluded_duke.json "
            "is of (sha256 differs)",
        ),
        (
            lambda: (RUN / "model.safetensors").unlink(),
            f"{RUN}/model.safetensors: no such file",
        ),
        (
            lambda: (RUN / "provenance.json").unlink(),
            f"{RUN}/provenance.json: no such file",
        ),
        (
            lambda: shutil.copy(RUN.with_name("seed0") / "provenance.json", RUN),
            f"{RUN}/provenance.json: is not that of seed 1",
        ),
        (
            lambda: edit(RUN / "provenance.json", '"model_sha256": "', '"model_sha256": "0'),
            f"{RUN}/provenance.json: is not of the model beside it (sha256 differs)",
        ),
    ],
)
def test_what_does_not_match_is_named_in_one_line(written, damage, message):
    damage()
    with pytest.raises(UserError) as caught:
        follow(TABLE)
    assert str(caught.value) == message


def test_a_trace_that_claims_another_number_is_found_out(written):
    edit(TABLE.with_suffix(".trace.json"), '"value": "23.2"', '"value": "63.2"')
    with pytest.raises(UserError, match=r"occluded_duke\.mAP is 63\.2, but its evaluations give"):
        follow(TABLE)


def test_all_that_does_not_match_is_listed_at_once(written):
    (RUN / "model.safetensors").unlink()
    edit(TABLE, "52.7", "52.8")
    with pytest.raises(UserError) as caught:
        follow(TABLE)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("content", ["[]", '{"format": "other"}'])
def test_another_file_is_no_trace(project, content):
    Path("x.trace.json").write_text(content)
    with pytest.raises(UserError, match=r"x\.trace\.json: not a trace written by pgfl"):
        follow(Path("x.csv"))


def test_files_that_are_no_evaluations_are_followed_by_their_hash_alone(project):
    for name in ("table1.csv", "manifest.csv"):
        Path(name).write_text(name)
    save_trace(
        Path("table1.trace.json"),
        [Path("table1.csv")],
        "demo",
        [Cell("Mine", "all", "", (Path("manifest.csv"),))],
    )
    assert follow(Path("table1.csv")) == [
        "table1.csv: as recorded; 1 entries from 1 files",
        "Mine, all",
        "    manifest.csv",
    ]
    Path("manifest.csv").write_text("other")
    with pytest.raises(UserError, match=r"manifest\.csv: changed since"):
        follow(Path("table1.csv"))


def test_a_file_of_a_run_leads_to_its_model_and_commit(make_run):
    evaluation = make_run("sab_i", "occluded_duke", 1, {"mAP": 1.0})
    picture, manifest = Path("figure4.png"), Path("manifest.csv")
    queries = evaluation.with_suffix(".queries.csv")
    for file in (picture, manifest, queries):
        file.write_text(file.name)
    model = RUN / "model.safetensors"
    save_trace(
        Path("figure4.trace.json"),
        [picture],
        "demo",
        [Cell("Mine", "on_parts", "3.0", (model, queries, manifest))],
    )
    assert follow(picture) == [
        "figure4.png: as recorded; 1 entries from 1 models",
        "Mine, on_parts: 3.0",
        f"    seed 1: {model}  commit c0ffee  device cpu",
        f"    seed 1: {queries}  commit c0ffee  device cpu",
        "    manifest.csv",
    ]
    edit(RUN / "provenance.json", '"seed": 1', '"seed": 2')
    with pytest.raises(UserError, match=r"provenance\.json: is not that of seed 1"):
        follow(picture)
    edit(RUN / "provenance.json", '"seed": 2', '"seed": 1')
    model.write_text("trained again")
    with pytest.raises(UserError, match=r"model\.safetensors: is not the model that .*queries"):
        follow(picture)


@pytest.mark.parametrize("lost", ["sources", "seed"])
def test_a_trace_that_leaves_out_what_its_numbers_are_from_is_damaged(written, lost):
    path = TABLE.with_suffix(".trace.json")
    trace = json.loads(path.read_text())
    del trace["sources"][f"{RUN}/eval/occluded_duke.json"]["seed"]
    path.write_text(json.dumps(trace if lost == "seed" else trace | {"sources": {}}))
    with pytest.raises(UserError, match=r"table6\.trace\.json: damaged; make the table or figure"):
        follow(TABLE)
