"""The command line: one command a stage. The workflow's rules call these, and so can a person."""

import errno
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from pgfl.errors import UserError

app = typer.Typer(
    help="Pose-guided feature learning with knowledge distillation for occluded person ReID.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
archive_app = typer.Typer(help="Get, draw and unpack the archives.", no_args_is_help=True)
weights_app = typer.Typer(help="Get pretrained weights.", no_args_is_help=True)
heatmaps_app = typer.Typer(help="The cache of HRNet heatmaps.", no_args_is_help=True)
config_app = typer.Typer(help="Show what the configuration resolves to.", no_args_is_help=True)
app.add_typer(archive_app, name="archive")
app.add_typer(weights_app, name="weights")
app.add_typer(heatmaps_app, name="heatmaps")
app.add_typer(config_app, name="config")

Out = Annotated[Path, typer.Option(help="What to write; appears whole or not at all.")]
JsonSettings = Annotated[
    str, typer.Option("--settings", help="Settings as JSON, or the path of a JSON file.")
]


Evaluations = Annotated[
    str, typer.Option(help='JSON: {"variant": {"test set": ["eval.json", ...]}}.')
]
Experiment = Annotated[str, typer.Option(help="Where the numbers are from.")]

DISK_TROUBLE = {
    errno.ENOSPC: "free some space, then run the same command again",
    errno.EDQUOT: "your quota is used up; free some space, then run the same command again",
    errno.EFBIG: "the file system takes no larger file here; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "make it readable and writable, or choose another folder",
    errno.EPERM: "writing is not allowed there; choose another folder",
    errno.EEXIST: "a file lies where a folder is needed; choose another place",
    errno.ENOTDIR: "a part of this path is a file, not a folder; choose another",
}
"""What the user can do about errors of the operating system; all others are ours."""


def main() -> None:
    """Run the command line; what the user can mend is one line on stderr and status 1."""
    try:
        app()
    except UserError as error:
        _fail(*str(error).splitlines())
    except BrokenPipeError:
        # A reader that closes the pipe early (head, less) is no error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in DISK_TROUBLE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror}; {DISK_TROUBLE[error.errno]}")


def _fail(*lines: str) -> NoReturn:
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    sys.exit(1)


def _settings(given: str) -> dict[str, Any]:
    from pgfl.files import read_json

    if not given.lstrip().startswith("{"):
        return read_json(Path(given))
    try:
        return json.loads(given)
    except json.JSONDecodeError as error:
        raise UserError(f"--settings: not JSON ({error})") from None


@archive_app.command("synthesize")
def archive_synthesize(dataset: str, out: Out, settings: JsonSettings = "{}") -> None:
    """Draw a small synthetic archive in a data set's own layout."""
    from pgfl.datasets.synthetic.archives import WRITERS, synthesize
    from pgfl.datasets.synthetic.settings import SyntheticSettings

    _known(dataset, WRITERS)
    parsed = SyntheticSettings.parse(_settings(settings), "synthetic")
    print(f"{out}: {synthesize(dataset, out, parsed)} images drawn")


@archive_app.command("get")
def archive_get(
    dataset: str,
    out: Out,
    folder: Annotated[Path, typer.Option(help="Where your archives lie.")] = Path("archives"),
    file: Annotated[Path | None, typer.Option(help="Your own file for this data set.")] = None,
    url: Annotated[str, typer.Option(help="An https address for it.")] = "",
) -> None:
    """Find or download the archive of a data set, and check it."""
    from pgfl.datasets.archives import SOURCES
    from pgfl.obtain import obtain

    _known(dataset, SOURCES)
    obtain(SOURCES[dataset], out, folder=folder, file=file, url=url)


@archive_app.command("extract")
def archive_extract(archive: Path, dataset: str, out: Out) -> None:
    """Unpack an archive safely."""
    from pgfl.datasets.archives import SOURCES, extract

    _known(dataset, SOURCES)
    print(f"{out}: {extract(archive, dataset, out)} files")


@archive_app.command("occluded-duke")
def archive_occluded_duke(
    lists: Annotated[Path, typer.Option(help="Folder with the three .list files.")],
    duke: Annotated[Path, typer.Option(help="Folder of the unpacked DukeMTMC-reID.")],
    out: Out,
) -> None:
    """Lay out Occluded-Duke from its lists and DukeMTMC-reID."""
    from pgfl.datasets.occluded_duke import assemble

    print(f"{out}: {assemble(lists, duke, out)} images")


@archive_app.command("partial-duke")
def archive_partial_duke(
    duke: Annotated[Path, typer.Option(help="Folder of the unpacked DukeMTMC-reID.")],
    out: Out,
    seed: Annotated[int, typer.Option(min=0, help="Decides which images are cropped.")] = 0,
) -> None:
    """Make Partial-Duke: DukeMTMC-reID with half of its images cropped."""
    from pgfl.datasets.partial_duke import make_crops

    print(f"{out}: {make_crops(duke, out, seed)} images")


@weights_app.command("get")
def weights_get(
    name: str,
    out: Out,
    folder: Annotated[Path, typer.Option(help="Where your files lie.")] = Path("archives"),
    file: Annotated[Path | None, typer.Option(help="Your own file.")] = None,
    url: Annotated[str, typer.Option(help="An https address for it.")] = "",
) -> None:
    """Find or download pretrained weights (resnet50, hrnet_w48, ...), and check them."""
    from pgfl.obtain import obtain
    from pgfl.sources import WEIGHTS

    _known(name, WEIGHTS)
    obtain(WEIGHTS[name], out, folder=folder, file=file, url=url)


@app.command("manifest")
def manifest(
    dataset: str,
    images: Annotated[Path, typer.Option(help="Folder of the unpacked archive.")],
    out: Out,
    check_published: Annotated[
        bool, typer.Option(help="Insist on the published numbers of ids, images and cameras.")
    ] = True,
) -> None:
    """List a data set's images with their identities and cameras, and check all of them."""
    from pgfl.datasets.manifest import write_manifest

    if images.parent.resolve() != out.parent.resolve():
        raise UserError(f"--out {out}: the manifest must lie beside the image folder {images}")
    table, junk = _checked(dataset, images, check_published)
    write_manifest(table, junk, out)
    _say_counts(str(out), table)


@app.command("take")
def take(
    table: Annotated[Path, typer.Argument(help="CSV: image, split, pid and, if known, camid.")],
    images: Annotated[Path, typer.Option(help="The folder that the image names start from.")],
    out: Annotated[Path, typer.Option(help="The data set's folder, for images and manifest.")],
) -> None:
    """Take a data set of your own: lay out its images, check them, write the manifest."""
    from pgfl.datasets import custom

    _say_counts(str(out), custom.take(table, images, out))


@app.command("verify")
def verify(
    dataset: str,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data sets; default: the experiment's.")
    ] = None,
    config: Annotated[Path, typer.Option(help="Names the experiment.")] = Path("config.yaml"),
) -> None:
    """Check a data set on disk again: names, numbers, every image's content, every match."""
    from pgfl.config import load_config, read_yaml
    from pgfl.datasets.custom import listed
    from pgfl.datasets.manifest import build_manifest, read_manifest, verify_rows

    loaded = load_config(read_yaml(config))
    folder = (data or Path("data") / loaded.experiment) / dataset
    expected = read_manifest(folder / "manifest.csv")
    if dataset in loaded.datasets:
        found, _ = build_manifest(listed(expected), folder)
    else:
        found, _ = _checked(dataset, folder / "images", not loaded.is_synthetic(dataset))
    verify_rows(expected, found, folder)
    _say_counts(f"{dataset}: as it should be", expected)


def _checked(dataset: str, images: Path, check_published: bool) -> Any:
    """A data set's table and junk counts, read anew from its folder and checked."""
    from importlib import import_module

    from pgfl.config import TRAIN_SET
    from pgfl.datasets.manifest import build_manifest

    _known(dataset, TRAIN_SET)
    module = import_module(f"pgfl.datasets.{dataset}")
    published = module.PUBLISHED if check_published else None
    return build_manifest(module.read(images), images.parent, published)


def _say_counts(what: str, table: Any) -> None:
    from pgfl.datasets.manifest import count

    for split, counts in count(table).items():
        print(f"{what}: {split}: {counts}")


@app.command("contact-sheet")
def contact_sheet(
    manifest: Annotated[Path, typer.Argument(help="Partial-Duke's manifest.")], out: Out
) -> None:
    """Draw examples of Partial-Duke's crops as one PNG."""
    from pgfl.reporting.contact_sheet import contact_sheet

    print(f"{out}: {contact_sheet(manifest, out)} images")


@heatmaps_app.command("make")
def heatmaps_make(
    manifest: Path,
    split: Annotated[str, typer.Option(help="train, query or gallery.")],
    weights: Annotated[Path, typer.Option(help="The estimator's checkpoint.")],
    out: Out,
    state: Annotated[Path, typer.Option(help="Folder of finished blocks, to go on from.")],
    shard: Annotated[
        str, typer.Option(help="i/n: compute only this part; a call without it merges them.")
    ] = "1/1",
    settings: JsonSettings = "{}",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Run HRNet over one split and cache its merged heatmaps; goes on where it was stopped."""
    import torch

    from pgfl.pose.settings import PoseSettings
    from pgfl.pose.stage import make_heatmaps

    part, _, parts = shard.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise UserError(f"--shard {shard}: must be i/n with 1 <= i <= n, as 2/4")
    torch.set_num_threads(threads)
    parsed = PoseSettings.parse(_settings(settings), "pose")
    done = make_heatmaps(manifest, split, weights, out, parsed, state, (int(part), int(parts)))
    print(f"{out}: {done} images computed")


@heatmaps_app.command("from-joints")
def heatmaps_from_joints(
    manifest: Path,
    split: Annotated[str, typer.Option(help="train, query or gallery.")],
    joints: Annotated[Path, typer.Option(help="The .joints.npz beside a synthetic archive.")],
    out: Out,
    settings: JsonSettings = "{}",
) -> None:
    """Draw perfect heatmaps from the true joints of synthetic images; a control."""
    from pgfl.pose.settings import PoseSettings
    from pgfl.pose.true_joints import make_true_heatmaps

    parsed = PoseSettings.parse(_settings(settings), "pose")
    print(f"{out}: {make_true_heatmaps(manifest, split, joints, out, parsed)} images")


@heatmaps_app.command("check")
def heatmaps_check(
    file: Path,
    manifest: Annotated[Path, typer.Option(help="The manifest that it was made for.")],
    split: Annotated[str, typer.Option(help="Default: the file's own name, as train.h5.")] = "",
) -> None:
    """Prove that a heatmap file fits a manifest: names, order, shapes, sums, no NaN."""
    from pgfl.datasets.manifest import read_manifest
    from pgfl.pose.check import check_store

    split = _split_of(file, split)
    images = list(read_manifest(manifest, split)["image"])
    check_store(file, images)
    print(f"{file}: fits {manifest}, {split}: {len(images)} images")


@heatmaps_app.command("report")
def heatmaps_report(
    files: Annotated[list[Path], typer.Argument(help="Heatmaps of one or several splits.")],
    manifest: Annotated[Path, typer.Option(help="The manifest that they were made for.")],
    out: Out,
    figure: Annotated[Path | None, typer.Option(help="Also a PNG: sheet and histograms.")] = None,
    split: Annotated[str, typer.Option(help="Default: each file's own name, as train.h5.")] = "",
    experiment: Annotated[str, typer.Option(help="Said in the title.")] = "",
    threshold: Annotated[
        float, typer.Option(help="A keypoint with a lower confidence counts as not found.")
    ] = 0.3,
) -> None:
    """Write a page to look at: maps over images, confidence, nobody found, two people."""
    from pgfl.reporting.pose_report import write_report

    if split and len(files) > 1:
        raise UserError("--split: only with one file; name several files train.h5, query.h5, ...")
    splits = {_split_of(file, split): file for file in files}
    if len(splits) < len(files):
        raise UserError(f"two of these files are of one split: {', '.join(map(str, files))}")
    found = write_report(splits, manifest, out, figure, experiment, threshold)
    print(
        f"{out}: {found.all} images, {found.nobody} with nobody found, "
        f"{found.competing} in which two people compete"
    )


def _split_of(file: Path, split: str) -> str:
    """The split that a heatmap file is of: as said, or its own name."""
    from pgfl.datasets.manifest import SPLITS

    split = split or file.stem
    if split not in SPLITS:
        raise UserError(f"{file}: whose heatmaps? Say --split {', '.join(SPLITS)}")
    return split


@app.command("train")
def train(
    manifest: Path,
    out: Annotated[Path, typer.Option(help="The run's folder.")],
    state: Annotated[Path, typer.Option(help="Folder of the resume state.")],
    heatmaps: Annotated[Path | None, typer.Option(help="Heatmaps of split train.")] = None,
    pretrained: Annotated[Path | None, typer.Option(help="ImageNet weights.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    settings: JsonSettings = "{}",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    workers: Annotated[int, typer.Option(min=0, help="Loader processes a device.")] = 2,
    devices: Annotated[int, typer.Option(min=1, help="GPUs (or CPU processes) to share.")] = 1,
    tensorboard: Annotated[
        bool, typer.Option(help="Write event files to OUT/tensorboard.")
    ] = False,
) -> None:
    """Train one variant; an interrupted run goes on where it was."""
    from pgfl.recipe import Recipe
    from pgfl.training.stage import Inputs, Job, run_training

    recipe = Recipe.parse(_settings(settings))
    job = Job(out, state, threads, workers, devices, tensorboard)
    run_training(Inputs(manifest, heatmaps, pretrained), recipe, seed, job)


@app.command("evaluate")
def evaluate(
    model: Path,
    manifest: Path,
    out: Out,
    metric: Annotated[str, typer.Option(help="cosine or euclidean.")] = "cosine",
    feature: Annotated[str, typer.Option(help="after_bnneck or before_bnneck.")] = "after_bnneck",
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    protocol: Annotated[str, typer.Option(help="multi_shot or single_shot.")] = "multi_shot",
    rerank: Annotated[bool, typer.Option(help="Re-rank by k-reciprocal neighbours.")] = False,
    use: Annotated[
        str,
        typer.Option(
            help="The feature to match with: global (the student's own), or part, fused, "
            "foreground or enhanced, which need the three files below."
        ),
    ] = "global",
    branches: Annotated[
        Path | None, typer.Option(help="branches.safetensors of the model's own run.")
    ] = None,
    heatmaps_query: Annotated[Path | None, typer.Option(help="Heatmaps of split query.")] = None,
    heatmaps_gallery: Annotated[
        Path | None, typer.Option(help="Heatmaps of split gallery.")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Evaluate a model on the query and gallery images of a manifest."""
    import torch

    from pgfl.config import EvaluationSettings
    from pgfl.models.matching import FEATURES

    _known(use, FEATURES)
    torch.set_num_threads(threads)
    options = {
        "metric": metric,
        "feature": feature,
        "batch_size": batch_size,
        "protocol": protocol,
        "rerank": rerank,
    }
    parsed = EvaluationSettings.parse(options, "evaluation")
    if use == "global":
        from pgfl.retrieval.stage import run_evaluation

        report = run_evaluation(model, manifest, out, **parsed.model_dump())
    elif branches is None or heatmaps_query is None or heatmaps_gallery is None:
        raise UserError(f"--use {use}: needs --branches, --heatmaps-query and --heatmaps-gallery")
    else:
        from pgfl.retrieval.guided import run_guided_evaluation

        report = run_guided_evaluation(
            model,
            manifest,
            out,
            use=use,
            branches=branches,
            heatmaps={"query": heatmaps_query, "gallery": heatmaps_gallery},
            **parsed.model_dump(),
        )
    print(f"{out}: Rank-1 {report['rank1']:.1f}, mAP {report['mAP']:.1f}")


@app.command("table")
def table(
    number: int,
    out: Out,
    evaluations: Evaluations,
    experiment: Experiment,
) -> None:
    """Write a table of the paper: published rows, then reproduced ones."""
    from pgfl.reporting.specs import TABLES
    from pgfl.reporting.tables import write_table

    _known(number, TABLES)
    write_table(number, _evaluations(evaluations), experiment, out)


@app.command("compare")
def compare(
    name: str,
    out: Out,
    evaluations: Evaluations,
    experiment: Experiment,
    against: Annotated[
        str, typer.Option(help="The variant to compare with; default: the first.")
    ] = "",
) -> None:
    """Write a table of variants side by side, with their differences over the seeds."""
    from pgfl.reporting.specs import comparison_spec
    from pgfl.reporting.tables import write_comparison

    files = _evaluations(evaluations)
    variants = list(dict.fromkeys(variant for variant, _ in files))
    if not variants:
        raise UserError("--evaluations: names no variant")
    against = against or variants[0]
    _known(against, variants)
    test_sets = list(dict.fromkeys(test_set for _, test_set in files))
    spec = comparison_spec(name, variants, against, test_sets)
    write_comparison(spec, files, experiment, out)


def _evaluations(given: str) -> dict[tuple[str, str], list[Path]]:
    """Evaluation files by variant and test set, from `variant -> test set -> one file a seed`."""
    return {
        (variant, test_set): [Path(path) for path in paths]
        for variant, sets in _settings(given).items()
        for test_set, paths in sets.items()
    }


@app.command("figure3")
def figure3(
    out: Out,
    sweeps: Annotated[str, typer.Option(help='JSON: {"lambda_cl": {"0.5": ["eval.json", ...]}}.')],
    experiment: Experiment,
) -> None:
    """Draw Figure 3, the weights of the two distillation losses; --out names its CSV."""
    from pgfl.reporting.figure3 import PANELS, write_figure3

    given = _settings(sweeps)
    for parameter in given:
        _known(parameter, PANELS)
    try:
        files = {
            parameter: {float(value): list(map(Path, paths)) for value, paths in points.items()}
            for parameter, points in given.items()
        }
    except ValueError as error:
        raise UserError(f"--sweeps: a value is no number ({error})") from None
    write_figure3(files, experiment, out)


@app.command("report")
def report(
    targets: Annotated[list[str], typer.Argument(help="Finished results to show.")],
    out: Out,
    config: Annotated[str, typer.Option(help="The configuration as JSON, or a file.")] = "{}",
    snakefile: Annotated[Path, typer.Option(help="The workflow.")] = Path("Snakefile"),
) -> None:
    """Write Snakemake's HTML report of finished results; runs nothing."""
    from pgfl.reporting.report import write_report

    write_report(targets, _settings(config), snakefile, out)


@app.command("trace")
def trace(
    result: Annotated[Path, typer.Argument(help="A table or figure: results/table2.csv.")],
) -> None:
    """Prove where a result's numbers are from: models, seeds, commits; all files unchanged."""
    from pgfl.reporting.trace import follow

    print("\n".join(follow(result)))


@app.command("dataset-table")
def dataset_table(
    out: Out,
    manifests: Annotated[str, typer.Option(help='JSON: {"data set": "manifest.csv", ...}.')],
    experiment: Annotated[str, typer.Option(help="Where the data sets are from.")],
) -> None:
    """Write Table 1: the data sets as published and as found."""
    from pgfl.reporting.dataset_table import write_dataset_table

    files = {dataset: Path(path) for dataset, path in _settings(manifests).items()}
    write_dataset_table(files, experiment, out)


@app.command("feature-table")
def feature_table(
    out: Out,
    evaluations: Annotated[str, typer.Option(help='JSON: {"method": ["eval.json", ...]}.')],
    recipes: Annotated[str, typer.Option(help='JSON: {"variant": {"model": ..., "loss": ...}}.')],
    pose: Annotated[str, typer.Option(help="JSON: settings of the pose network.")],
    experiment: Experiment,
) -> None:
    """Write Table 8: what each feature reaches, and what matching with it costs."""
    import torch

    from pgfl.pose.settings import PoseSettings
    from pgfl.recipe import Recipe
    from pgfl.reporting.feature_table import write_feature_table

    torch.set_num_threads(1)  # counting is little work, and the rule asks for one core
    files = {
        method: [Path(path) for path in paths] for method, paths in _settings(evaluations).items()
    }
    parsed = {name: Recipe.parse(given, name) for name, given in _settings(recipes).items()}
    write_feature_table(
        files, parsed, PoseSettings.parse(_settings(pose), "pose"), experiment, out
    )


@app.command("speed-table")
def speed_table(
    model: Path,
    manifest: Path,
    out: Out,
    branches: Annotated[Path, typer.Option(help="branches.safetensors of the model's own run.")],
    weights: Annotated[Path, typer.Option(help="The pose network's checkpoint.")],
    experiment: Annotated[str, typer.Option(help="Where the model is from.")],
    pose: Annotated[str, typer.Option(help="JSON: settings of the pose network.")] = "{}",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Write Table 9: seconds a query on this machine, which should have nothing else to do."""
    import torch

    from pgfl.pose.settings import PoseSettings
    from pgfl.reporting.speed_table import Trained, write_speed_table

    torch.set_num_threads(threads)
    parsed = PoseSettings.parse(_settings(pose), "pose")
    write_speed_table(Trained(model, branches, weights, parsed), manifest, experiment, out)


@app.command("response-figure")
def response_figure(
    manifest: Path,
    out: Out,
    students: Annotated[
        str, typer.Option(help='JSON: {"method": ["model.safetensors", ...]}, one a seed.')
    ],
    experiment: Annotated[str, typer.Option(help="Where the models are from.")],
    heatmaps: Annotated[
        Path | None, typer.Option(help="Heatmaps of split query: say what lies on body parts.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="A CSV for these shares; needs --heatmaps.")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Draw the responses of students to occluded queries as one PNG (Figures 1 and 4)."""
    import torch

    from pgfl.reporting.response_figure import draw_responses

    if table is not None and heatmaps is None:
        raise UserError("--table: needs --heatmaps")
    torch.set_num_threads(threads)
    files = {method: [Path(p) for p in paths] for method, paths in _settings(students).items()}
    draw_responses(files, manifest, experiment, out, heatmaps, table)


@config_app.command("show")
def config_show(
    config: Annotated[Path, typer.Option(help="A configuration file.")] = Path("config.yaml"),
    variant: Annotated[str, typer.Option(help="Show the recipe of one variant only.")] = "",
) -> None:
    """Print the whole configuration, presets and defaults included, as YAML."""
    import yaml

    from pgfl.config import load_config, read_yaml

    loaded = load_config(read_yaml(config))
    shown = loaded.recipe(variant) if variant else loaded
    print(yaml.safe_dump(shown.model_dump(mode="json"), sort_keys=False), end="")


@config_app.command("schema")
def config_schema(out: Out) -> None:
    """Write the JSON schema of the configuration, for editors."""
    from pgfl.config import Config
    from pgfl.files import write_json

    write_json(out, Config.model_json_schema())


def _known(name: object, allowed: Any) -> None:
    if name not in allowed:
        raise UserError(f"no {name!r}; known: {', '.join(map(str, allowed))}")
