"""After each change, exactly what docs/reruns.md says is made again: no more and no less.

Real Snakemake plans in copies of a finished project. What is expected is put together here from
what is made of what, not asked of the workflow.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
import yaml

from pgfl.datasets.registry import SOURCES
from pgfl.datasets.synthetic.archives import synthesize
from pgfl.datasets.synthetic.settings import SyntheticSettings

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reruns.md"

# What is made of what.

OD, MARKET, DUKE, PARTIAL_DUKE = "occluded_duke", "market1501", "dukemtmc_reid", "partial_duke"
TESTED_ON = {
    OD: [OD],
    MARKET: [MARKET, "occluded_reid", "partial_reid", "partial_ilids"],
    DUKE: [DUKE],
    PARTIAL_DUKE: [PARTIAL_DUKE],
}
OF_QUERIES = ("failures", "visibility", "training_curves", f"ranked_lists/{OD}")
SHOWN_IN = {
    (OD, "baseline"): [
        *("table2", "table6", "table8", "figure1", "figure4", "compare_mine", *OF_QUERIES)
    ],
    (OD, "pgfl_kd"): [
        *("table2", "table6", "table7", "table8", "table9", "figure3", "figure4", "compare_mine"),
        *OF_QUERIES,
    ],
    (OD, "pgfl_kd_part_cl"): ["table7", "training_curves"],
    **{
        (OD, variant): ["table6", "training_curves"]
        for variant in ("sab", "sab_i", "sab_im", "sab_im_feb")
    },
    **{
        (MARKET, variant): [
            *("table2", "table3", "table5", f"stress_{MARKET}"),
            *(f"ranked_lists/{name}" for name in TESTED_ON[MARKET]),
        ]
        for variant in ("baseline", "pgfl_kd")
    },
    **{
        (train, variant): [table, f"ranked_lists/{train}"]
        for train, table in ((DUKE, "table5"), (PARTIAL_DUKE, "table4"))
        for variant in ("baseline", "pgfl_kd")
    },
}
"""The deliverables that a model's numbers or pictures are in."""
TABLES_2_TO_8 = [f"table{number}" for number in range(2, 9)]
RANKED_LISTS = [f"ranked_lists/{name}" for names in TESTED_ON.values() for name in names]
OF_METRICS = [
    *("figure3", "compare_mine", "failures", "visibility", f"stress_{MARKET}", *RANKED_LISTS)
]
PICTURE = ["png", "trace.json"]
KINDS = {
    **dict.fromkeys(["figure1", "training_curves", *RANKED_LISTS], PICTURE),
    **{
        name: ["csv", *PICTURE]
        for name in ("figure3", "figure4", "visibility", f"stress_{MARKET}")
    },
    "compare_mine": ["csv", "md", *PICTURE],
    "failures": ["html", "trace.json"],
    "heatmaps": ["png", "html"],
    "partial_duke": ["png"],
    "report": ["html"],
}
ALL = set(SHOWN_IN)
WITH_POSE = {model for model in ALL if model[1] != "baseline"}
WITH_FEB = {m for m in ALL if m[1] in ("sab_im_feb", "pgfl_kd", "pgfl_kd_part_cl")}
WITH_EQ5 = {m for m in ALL if m[1] in ("sab_im", "sab_im_feb", "pgfl_kd")}
HEATMAPS = {
    *(f"cache/demo/heatmaps/{name}/train.h5" for name in TESTED_ON),
    *(f"cache/demo/heatmaps/{OD}/{split}.h5" for split in ("query", "gallery")),
}
REPORT = {"results/report.html"}


def shown(*names):
    """The files of deliverables, and the report, which shows all of them."""
    table = ["csv", "md", "trace.json"]
    files = {f"results/{name}.{kind}" for name in names for kind in KINDS.get(name, table)}
    return files | REPORT


def trained(models, seed=0):
    """The files of trainings."""
    names = ("model.safetensors", "branches.safetensors", "history.csv", "provenance.json")
    return {f"runs/demo/{train}/{v}/seed{seed}/{n}" for (train, v), n in product(models, names)}


def evaluated(models, seed=0):
    """The files of evaluations, those of Table 8's features among them."""
    files = {
        f"runs/demo/{train}/{variant}/seed{seed}/eval/{name}.{kind}"
        for train, variant in models
        for name in TESTED_ON[train]
        for kind in ("json", "queries.csv")
    }
    if (OD, "pgfl_kd") in models:
        features = ("part", "fused", "foreground", "enhanced")
        files |= {f"runs/demo/{OD}/pgfl_kd/seed{seed}/eval/{OD}.{f}.json" for f in features}
    return files


def deliverables(models):
    """What shows these models."""
    return shown(*{name for model in models for name in SHOWN_IN[model]})


def from_training(models):
    """All that is made again when models are trained again."""
    return trained(models) | evaluated(models) | deliverables(models)


def data_set(name):
    """A data set's images and lists."""
    return {f"data/demo/{name}/{file}" for file in ("images", "manifest.csv", "counts.json")}


# What people do. Files are replaced, never written into: copies share them with the original.


def replace(path, content):
    path.unlink()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def edit(root, file, old, new):
    text = (root / file).read_text()
    assert old in text, f"{file} no longer holds {old!r}"
    replace(root / file, text.replace(old, new, 1))


def configure(root, **settings):
    content = yaml.safe_load((root / "config.yaml").read_text())
    replace(root / "config.yaml", yaml.safe_dump(content | settings))


def edited(file, old, new):
    return lambda root: edit(root, file, old, new)


def configured(**settings):
    return lambda root: configure(root, **settings)


def nothing(root):
    pass


def touch_code(root):
    for path in root.rglob("*"):
        if path.is_file() and path.relative_to(root).parts[0] not in (
            *(".snakemake", "data", "cache", "runs", "results", "logs"),
        ):
            path.touch()


def touch_made(root):
    """One of each kind, each newer than what is made of it."""
    run = f"runs/demo/{OD}/pgfl_kd/seed0"
    for file in (
        "data/demo/archives/DukeMTMC-reID.zip",
        f"data/demo/{OD}/manifest.csv",
        f"cache/demo/heatmaps/{OD}/train.h5",
        f"{run}/model.safetensors",
        f"{run}/eval/{OD}.json",
    ):
        replace(root / file, (root / file).read_bytes())


def comments(root):
    edit(root, "pgfl/training/loop.py", "import torch\n", "# why\nimport torch\n")
    edit(root, "pgfl/losses/triplet.py", "Triplet loss with", "The triplet loss with")
    edit(root, "pgfl/nn/settings.py", "Input height in pixels.", "The input's height, in pixels.")
    edit(root, "pgfl/pose/hrnet.py", '"""', '"""About: ')
    edit(root, "workflow/variants.yaml", "# Model 2", "# The second model")
    edit(root, "workflow/rules/training.smk", "# One job", "# A job")
    replace(root / "config.yaml", "# mine\n" + (root / "config.yaml").read_text())


def unrelated(root):
    edit(root, "pgfl/cli/main.py", "import typer\n", "import typer\n\nUNUSED = 1\n")
    edit(root, "pgfl/pose/train_small.py", "BLOCK = 200", "BLOCK = 100")
    edit(
        root,
        "pgfl/runtime/progress.py",
        "SECONDS_BETWEEN_LINES = 20",
        "SECONDS_BETWEEN_LINES = 30",
    )
    edit(root, "pgfl/training/live.py", "BAR = 20", "BAR = 30")
    edit(root, "pgfl/untrusted/obtain.py", "TIMEOUT_SECONDS = 60", "TIMEOUT_SECONDS = 90")
    edit(root, "pgfl/runtime/locks.py", "PATIENCE = 15.0", "PATIENCE = 20.0")
    edit(root, "pgfl/__init__.py", '__version__ = "', '__version__ = "9')


def extend(root):
    methods, losses = root / "pgfl/methods", root / "pgfl/losses"
    (methods / "mine.py").write_text((methods / "pcb.py").read_text())
    edit(root, "pgfl/methods/__init__.py", " = {\n", ' = {\n    "mine": "pgfl.methods.mine",\n')
    (losses / "mine.py").write_text((losses / "center.py").read_text())
    edit(
        root,
        "pgfl/losses/__init__.py",
        "EXTRA: dict[str, str] = {",
        'EXTRA = {"mine": "pgfl.losses.mine", ',
    )
    line = "  mine: {method: mine, losses: {mine: 1.0}}\n"
    replace(root / "workflow/variants.yaml", (root / "workflow/variants.yaml").read_text() + line)


def replace_archive(root):
    archive = root / "other.zip"
    archive.write_text("another")
    configure(root, archives={"files": {"partial_reid": str(archive)}})


def edit_metrics(root):
    edit(root, "pgfl/retrieval/metrics.py", "100 * float(precision", "100.0 * float(precision")


def needed_images(root):
    shutil.rmtree(root / "data/demo/partial_reid/images")
    edit_metrics(root)


@dataclass(frozen=True)
class Case:
    """A row of the document."""

    change: Callable[[Path], object]
    """Done to a finished project's folder."""
    again: set[str]
    """The files that the next run makes."""


CASES = {
    "nothing": Case(nothing, set()),
    "touched code or settings": Case(touch_code, set()),
    "touched archives, manifests, heatmaps, models": Case(touch_made, set()),
    "edited comments or docstrings": Case(comments, set()),
    "edited messages, commands, the version": Case(unrelated, set()),
    "edited a loss that all have": Case(
        edited("pgfl/losses/triplet.py", "+ margin).clamp", "+ 0 + margin).clamp"),
        from_training(ALL),
    ),
    "edited the loss of Eq. 5": Case(
        edited(
            "pgfl/losses/multi_part_contrastive.py",
            "import torch\n",
            "import torch\n\nX = 1\n",
        ),
        from_training(WITH_EQ5),
    ),
    "edited the foreground branch": Case(
        edited("pgfl/methods/pgfl_kd/foreground_branch.py", "1e-12", "2e-12"),
        from_training(WITH_FEB) | shown("figure4", "table8", "table9", f"stress_{MARKET}"),
    ),
    "edited the pose network": Case(
        edited("pgfl/pose/hrnet.py", "maps = network(inputs)", "maps = +network(inputs)"),
        HEATMAPS | from_training(WITH_POSE) | shown("heatmaps"),
    ),
    "edited the small HRNet's architecture": Case(
        edited("pgfl/pose/configs/hrnet_small.py", "num_modules=1", "num_modules=2"),
        HEATMAPS | from_training(WITH_POSE) | shown("heatmaps"),
    ),
    "edited the metrics": Case(
        edit_metrics,
        evaluated(ALL) | shown(*TABLES_2_TO_8, *OF_METRICS),
    ),
    "edited the tables": Case(
        edited("pgfl/reporting/statistics.py", ".2f}", ".3f}"),
        deliverables(ALL) | shown("table1"),
    ),
    "edited one figure": Case(
        edited("pgfl/reporting/paper/figure3.py", "dpi=150", "dpi=151"),
        shown("figure3"),
    ),
    "edited a caption of the report": Case(
        edited("workflow/report/figure3.rst", "\n", " Words.\n"),
        REPORT,
    ),
    "changed lambda_cl of one variant": Case(
        configured(variants={"pgfl_kd": {"lambda_cl": 0.5}}),
        from_training({model for model in ALL if model[1] == "pgfl_kd"})
        # The point of Figure 3 that was this variant until now.
        | trained({(OD, "pgfl_kd-lambda_cl-0.25")})
        | evaluated({(OD, "pgfl_kd-lambda_cl-0.25")}),
    ),
    "changed the temperature of Eq. 5 for all": Case(
        configured(methods={"pgfl_kd": {"contrastive_temperature": 0.2}}),
        from_training(WITH_EQ5),
    ),
    "changed the epochs": Case(
        configured(training={"epochs": 3, "milestones": [2], "identities": 4, "images": 2}),
        from_training(ALL),
    ),
    "changed threads, workers, devices": Case(
        configured(resources={"train_threads": 2, "pose_threads": 2, "workers": 1, "devices": 2}),
        set(),
    ),
    "added a seed": Case(
        configured(seeds=[0, 1]),
        trained(ALL, seed=1)
        | evaluated(ALL, seed=1)
        | deliverables(ALL) - shown("table9")
        | REPORT,
    ),
    "added a variant to a comparison": Case(
        configured(
            variants={"strong": {"lambda_mcl": 2.0}},
            comparisons={
                "mine": {"variants": ["pgfl_kd", "baseline", "strong"], "against": "baseline"}
            },
        ),
        trained({(OD, "strong")}) | evaluated({(OD, "strong")}) | shown("compare_mine"),
    ),
    "added a variant that no table shows": Case(configured(variants={"idle": {}}), REPORT),
    "added a method, a loss and a variant to the package": Case(extend, set()),
    "gave a variant an extra loss": Case(
        configured(variants={"pgfl_kd_part_cl": {"losses": {"center": 0.1}}}),
        from_training({(OD, "pgfl_kd_part_cl")}),
    ),
    "edited an extra loss that no variant has": Case(
        edited("pgfl/losses/center.py", ".mean() / 2", ".mean() / 3"),
        set(),
    ),
    "replaced a drawn archive by a file of your own": Case(
        replace_archive,
        {"data/demo/archives/Partial-REID_Dataset.zip"}
        | data_set("partial_reid")
        | {name for name in evaluated(ALL) if "/eval/partial_reid." in name}
        | shown("table1", "table3", "ranked_lists/partial_reid"),
    ),
    "deleted a model": Case(
        lambda root: (root / f"runs/demo/{OD}/sab_im/seed0/model.safetensors").unlink(),
        from_training({(OD, "sab_im")}),
    ),
    "deleted an evaluation": Case(
        lambda root: (root / f"runs/demo/{OD}/sab_im/seed0/eval/{OD}.json").unlink(),
        evaluated({(OD, "sab_im")}) | shown("table6"),
    ),
    "deleted a table": Case(lambda root: (root / "results/table3.md").unlink(), shown("table3")),
    "deleted archives, images, manifests, heatmaps": Case(
        lambda root: [shutil.rmtree(root / name) for name in ("data", "cache")], set()
    ),
    "deleted images, and edited the metrics": Case(
        needed_images,
        evaluated(ALL) | data_set("partial_reid") | shown("table1", *TABLES_2_TO_8, *OF_METRICS),
    ),
}


# Running them.


@pytest.fixture(scope="module")
def plans(request, finished, tmp_path_factory):
    """For each case what the next run would make; two at a time, since planning takes seconds."""
    wanted = [item.callspec.params["name"] for item in request.session.items if _is_case(item)]
    folder = tmp_path_factory.mktemp("cases")

    def plan(name):
        project = finished.copy(folder / re.sub(r"\W", "_", name))
        CASES[name].change(project.root)
        planned = set(project.planned())
        shutil.rmtree(project.root)
        return planned

    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(plan, name) for name in wanted}
        pool.shutdown(cancel_futures=True)


def _is_case(item):
    return getattr(item, "originalname", "") == "test_exactly_this_is_made_again"


@pytest.mark.parametrize("name", CASES)
def test_exactly_this_is_made_again(plans, name):
    planned, again = plans[name].result(), CASES[name].again
    assert not planned - again, "more than should be"
    assert not again - planned, "less than should be"


# Changes that take several steps.


def test_another_archive_of_the_same_name_and_an_older_time_is_noticed(copied):
    """Moved or copied files keep their time, so a newer time alone says too little."""
    images = "data/demo/partial_reid/images"
    archive = copied.root / "archives" / "Partial-REID_Dataset.zip"
    archive.parent.mkdir()
    small = {"test_identities": 4, "height": 32, "width": 16}
    synthesize("partial_reid", archive, SyntheticSettings(seed=9, **small))
    overlay = copied.root / "real.yaml"
    overlay.write_text(f"archives: {{files: {{partial_reid: '{archive}'}}}}\n")
    options = ("--configfile", str(overlay), "--", images)
    copied.snakemake(*options)
    assert copied.planned(*options) == []
    replace(archive, archive.read_bytes())
    assert copied.planned(*options) == []
    archive.unlink()
    synthesize("partial_reid", archive, SyntheticSettings(seed=8, **small))
    os.utime(archive, (1e9, 1e9))
    made = ["data/demo/archives/Partial-REID_Dataset.zip", images]
    assert copied.planned(*options) == made


def test_changed_photographs_behind_an_unchanged_table_are_noticed(copied):
    photographs = copied.root / "photos"
    shutil.copytree(copied.root / "data/demo/partial_reid/images", photographs)
    files = sorted(photographs.rglob("*.jpg"))
    rows = [f"{file.relative_to(photographs)},train,{row // 5}" for row, file in enumerate(files)]
    (photographs / "mine.csv").write_text("\n".join(["image,split,pid", *rows]) + "\n")
    overlay = copied.root / "mine.yaml"
    overlay.write_text("datasets: {mine: {table: photos/mine.csv}}\n")
    options = ("--configfile", str(overlay), "--", "data/demo/mine/manifest.csv")
    copied.snakemake(*options)
    before = (copied.root / "data/demo/mine/manifest.csv").read_bytes()
    for file in files:
        file.touch()
    assert copied.planned(*options) == []
    replace(files[3], files[4].read_bytes())
    assert set(copied.planned(*options)) == data_set("mine")
    copied.snakemake(*options)
    assert (copied.root / "data/demo/mine/manifest.csv").read_bytes() != before
    assert copied.planned(*options) == []
    files[3].unlink()
    code, output = copied.snakemake("--dry-run", *options, check=False)
    assert code != 0 and f"setting datasets.mine: photos/{rows[3].split(',')[0]} is gone" in output


def test_another_branch_and_back(copied):
    def git(*arguments):
        identity = ("-c", "user.name=A", "-c", "user.email=a@b.c")
        subprocess.run(["git", *identity, *arguments], cwd=copied.root, check=True)

    shutil.copy(DOCUMENT.parents[1] / ".gitignore", copied.root)
    git("init", "--quiet", "--initial-branch", "one")
    git("add", ".")
    git("commit", "--quiet", "--message", "one")
    git("checkout", "--quiet", "-b", "two")
    edit(copied.root, "pgfl/losses/triplet.py", "+ margin).clamp", "+ 0 + margin).clamp")
    edit(copied.root, "pgfl/reporting/paper/published/table2.csv", "LOMO", "lomo")
    weights = copied.root / "pgfl/pose/weights/hrnet_small.safetensors"
    replace(weights, weights.read_bytes() + b" ")
    git("commit", "--quiet", "--all", "--message", "two")
    assert set(copied.planned()) == HEATMAPS | from_training(ALL) | shown("heatmaps")
    git("checkout", "--quiet", "one")
    assert weights.stat().st_mtime > (copied.root / "results/report.html").stat().st_mtime
    assert copied.planned() == []


def test_another_experiment_and_back_makes_the_results_again_and_nothing_else(copied):
    table = copied.root / "results/table2.csv"
    ours = table.read_bytes()
    small = yaml.safe_load((copied.root / "config.yaml").read_text())
    demo = yaml.safe_load((copied.root / "workflow/experiments/demo.yaml").read_text())
    overlay = copied.root / "paper.yaml"
    # The paper's experiment, as small as the demo, and with its archives taken for the real ones.
    parts = ("pose", "model", "training")
    archives = {dataset: f"data/demo/archives/{one.name}" for dataset, one in SOURCES.items()}
    overlay.write_text(
        yaml.safe_dump(
            {"experiment": "paper", "archives": {"files": archives}}
            | {name: demo[name] | small.get(name, {}) for name in parts}
        )
    )
    other = ("--configfile", str(overlay))
    planned = copied.planned(*other)
    results = {name for name in planned if name.startswith("results/")}
    assert results == deliverables(ALL) | shown("table1", "heatmaps", "partial_duke")
    apart = {"/".join(name.split("/")[:2]) for name in set(planned) - results}
    assert apart == {"data/paper", "cache/paper", "runs/paper"}
    # Pretend to have run it all: files with nothing in them, which Snakemake takes as its own.
    for name in planned:
        path = copied.root / name
        if path.name == "images":
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_text("")
    copied.snakemake("--touch", *other)
    assert copied.planned(*other) == []
    assert set(copied.planned()) == results
    copied.snakemake("results/table2.csv")
    assert table.read_bytes() == ours and b",demo," in ours
    assert set(copied.planned()) == results - shown("table2") | REPORT


def test_heatmaps_that_are_made_again_train_nothing_again(copied):
    """Snakemake runs all that was made of them; a training finds its very own run and ends."""
    heatmaps, run = f"cache/demo/heatmaps/{OD}/train.h5", f"runs/demo/{OD}/sab/seed0"
    model = copied.root / run / "model.safetensors"
    before = model.read_bytes()
    (copied.root / heatmaps).unlink()
    targets = (heatmaps, f"{run}/model.safetensors")
    assert set(copied.planned("--", *targets)) == {heatmaps} | trained({(OD, "sab")})
    copied.snakemake("--", *targets)
    assert model.read_bytes() == before
    assert "restored from" in (copied.root / "logs" / run / "train.log").read_text()
    assert copied.planned("--", *targets) == []


STEPS = {
    "deleted heatmaps, and something needs them": (
        test_heatmaps_that_are_made_again_train_nothing_again
    ),
    "replaced your own archive by another of the same name": (
        test_another_archive_of_the_same_name_and_an_older_time_is_noticed
    ),
    "changed photographs behind an unchanged table of your own": (
        test_changed_photographs_behind_an_unchanged_table_are_noticed
    ),
    "switched to another git branch and back": test_another_branch_and_back,
    "switched to another experiment and back": (
        test_another_experiment_and_back_makes_the_results_again_and_nothing_else
    ),
}
"""The rows of the document that have a test of their own."""


def test_the_document_has_a_row_for_each_case():
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0] == ["what you did", "what is done again", "what is not"]
    assert [row[0] for row in rows[2:]] == [*CASES, *STEPS]
    for what, again, _ in rows[2:]:
        if what in CASES:
            assert again.startswith("nothing") == (not CASES[what].again), what
