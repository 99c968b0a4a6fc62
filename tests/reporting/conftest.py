import json
from pathlib import Path

import pytest

from pgfl.config import TRAIN_SET
from pgfl.files import file_hash
from pgfl.reporting.specs import TABLES


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty folder that is the working folder, as a project's is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def make_run(project):
    """Makes up one seed's run, with model, provenance and the evaluation of one test set."""

    def make(variant: str, test_set: str, seed: int, values: dict[str, float]) -> Path:
        run = Path("runs/demo", TRAIN_SET[test_set], variant, f"seed{seed}")
        (run / "eval").mkdir(parents=True, exist_ok=True)
        model = run / "model.safetensors"
        model.write_text(f"{run}")
        provenance = {"seed": seed, "git_commit": "c0ffee", "device": "cpu"}
        (run / "provenance.json").write_text(json.dumps(provenance))
        counts = {"query": 330, "gallery": 660, "query_identities": 30, "gallery_identities": 31}
        report = values | {
            "counts": counts,
            "chance": {"rank1": 1.0, "mAP": 2.04},
            "protocol": "multi_shot",
            "rerank": False,
            "model_sha256": file_hash(model),
        }
        file = run / "eval" / f"{test_set}.json"
        file.write_text(json.dumps(report))
        return file

    return make


@pytest.fixture
def make_evaluations(make_run):
    """Makes up what a table needs.

    The value of each measure is 10 for each variant's place in the table, plus 1 for each test
    set's, plus 0.5 for each seed's, plus the length of the measure's name.
    """

    def make(number: int, seeds: int = 2) -> dict[tuple[str, str], list[Path]]:
        spec = TABLES[number]
        return {
            (variant, test_set): [
                make_run(
                    variant,
                    test_set,
                    seed,
                    {
                        metric: 10 * v + t + 0.5 * seed + len(metric)
                        for metric in ("rank1", "rank3", "rank5", "rank10", "mAP")
                    },
                )
                for seed in range(seeds)
            ]
            for v, variant in enumerate(spec.reproduced.values())
            for t, test_set in enumerate(spec.test_sets)
        }

    return make
