"""Commands that write tables and figures, and trace them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pgfl.cli.arguments import (
    Evaluations,
    Experiment,
    Out,
    Threads,
    json_files,
    json_settings,
    json_shaped,
    known,
)
from pgfl.errors import UserError
from pgfl.reporting.outputs import Outputs
from pgfl.runtime.machine import own_gpus

app = typer.Typer()

LeftOut = Annotated[
    str,
    typer.Option(help='JSON: {"data set": ["missing file", ...]}; their cells stay empty.'),
]
Queries = Annotated[
    str, typer.Option(help='JSON: {"method": ["eval/set.queries.csv", ...]}, one per seed.')
]
Csv = Annotated[Path, typer.Option("--out", help="The CSV; appears whole or not at all.")]
Markdown = Annotated[
    Path | None, typer.Option(help="The table for reading. Default: the .md beside --out.")
]
Figure = Annotated[
    Path | None, typer.Option(help="The picture of it. Default: the .png beside --out.")
]
Trace = Annotated[
    Path | None,
    typer.Option(help="What it was made of. Default: the .trace.json beside --out."),
]
QueryHeatmaps = Annotated[Path, typer.Option(help="Heatmaps of split query.")]


@app.command("table")
def table(
    number: int,
    out: Csv,
    evaluations: Evaluations,
    experiment: Experiment,
    left_out: LeftOut = "{}",
    markdown: Markdown = None,
    trace: Trace = None,
) -> None:
    """Write a table of the paper: published rows, then reproduced ones."""
    from pgfl.reporting.paper.specs import TABLES
    from pgfl.reporting.paper.tables import write_table

    known(number, TABLES)
    files = Outputs.beside(out, markdown=markdown, trace=trace)
    write_table(number, _evaluations(evaluations), experiment, files, _left_out(left_out))


@app.command("compare")
def compare(
    name: str,
    out: Csv,
    evaluations: Evaluations,
    experiment: Experiment,
    against: Annotated[
        str, typer.Option(help="The variant to compare with; default: the first.")
    ] = "",
    left_out: LeftOut = "{}",
    markdown: Markdown = None,
    figure: Figure = None,
    trace: Trace = None,
) -> None:
    """Write table and picture of variants side by side; the differences over the seeds, too."""
    from pgfl.reporting.more.comparison import write_comparison
    from pgfl.reporting.paper.specs import comparison_spec

    files = _evaluations(evaluations)
    variants = list(dict.fromkeys(variant for variant, _ in files))
    if not variants:
        raise UserError("--evaluations: names no variant")
    against = against or variants[0]
    known(against, variants)
    test_sets = list(dict.fromkeys(test_set for _, test_set in files))
    spec = comparison_spec(name, variants, against, test_sets)
    outputs = Outputs.beside(out, markdown=markdown, figure=figure, trace=trace)
    write_comparison(spec, files, experiment, outputs, _left_out(left_out))


def _evaluations(given: str) -> dict[tuple[str, str], list[Path]]:
    """Evaluation files by variant and test set, from `variant -> test set -> file per seed`."""
    words = '{"variant": {"test set": ["eval.json", ...]}}'
    files = json_shaped(given, "--evaluations", dict[str, dict[str, list[Path]]], words)
    return {
        (variant, test_set): paths
        for variant, sets in files.items()
        for test_set, paths in sets.items()
    }


def _left_out(given: str) -> dict[str, list[str]]:
    """The data sets that a table goes without, and the names of their missing files."""
    words = '{"data set": ["missing file", ...]}'
    return json_shaped(given, "--left-out", dict[str, list[str]], words)


@app.command("figure3")
def figure3(
    out: Csv,
    sweeps: Annotated[str, typer.Option(help='JSON: {"lambda_cl": {"0.5": ["eval.json", ...]}}.')],
    experiment: Experiment,
    figure: Figure = None,
    trace: Trace = None,
) -> None:
    """Draw Figure 3, the weights of the two distillation losses, and write its CSV."""
    from pgfl.reporting.paper.figure3 import PANELS, write_figure3

    words = '{"lambda_cl": {"0.5": ["eval.json", ...]}}'
    given = json_shaped(sweeps, "--sweeps", dict[str, dict[str, list[Path]]], words)
    for parameter in given:
        known(parameter, PANELS)
    try:
        files = {
            parameter: {float(value): paths for value, paths in points.items()}
            for parameter, points in given.items()
        }
    except ValueError as error:
        raise UserError(f"--sweeps: a value is no number ({error})") from None
    if not files or not all(points and all(points.values()) for points in files.values()):
        raise UserError("--sweeps: names no file")
    write_figure3(files, experiment, Outputs.beside(out, figure=figure, trace=trace))


@app.command("report")
def report(
    targets: Annotated[list[str], typer.Argument(help="Finished results to show.")],
    out: Out,
    config: Annotated[str, typer.Option(help="The configuration as JSON, or a file.")] = "{}",
    snakefile: Annotated[Path, typer.Option(help="The workflow.")] = Path("Snakefile"),
) -> None:
    """Write Snakemake's HTML report of finished results; runs nothing."""
    from pgfl.reporting.report import write_report

    write_report(targets, json_settings(config, "--config"), snakefile, out)


@app.command("trace")
def trace(
    result: Annotated[Path, typer.Argument(help="A table or figure: results/table2.csv.")],
) -> None:
    """Prove where a result's numbers are from: models, seeds, commits; all files unchanged."""
    from pgfl.reporting.trace import follow

    print("\n".join(follow(result)))


@app.command("dataset-table")
def dataset_table(
    out: Csv,
    manifests: Annotated[str, typer.Option(help='JSON: {"data set": "manifest.csv", ...}.')],
    experiment: Annotated[str, typer.Option(help="Where the data sets are from.")],
    left_out: LeftOut = "{}",
    markdown: Markdown = None,
    trace: Trace = None,
) -> None:
    """Write Table 1: the data sets as published and as found."""
    from pgfl.reporting.paper.dataset_table import write_dataset_table

    words = '{"data set": "manifest.csv", ...}'
    files = json_shaped(manifests, "--manifests", dict[str, Path], words)
    outputs = Outputs.beside(out, markdown=markdown, trace=trace)
    write_dataset_table(files, experiment, outputs, _left_out(left_out))


@app.command("feature-table")
def feature_table(
    out: Csv,
    evaluations: Annotated[str, typer.Option(help='JSON: {"method": ["eval.json", ...]}.')],
    recipes: Annotated[str, typer.Option(help='JSON: {"variant": {"model": ..., "loss": ...}}.')],
    pose: Annotated[str, typer.Option(help="JSON: settings of the pose network.")],
    experiment: Experiment,
    markdown: Markdown = None,
    trace: Trace = None,
) -> None:
    """Write Table 8: what each feature reaches, and what matching with it costs."""
    import torch

    from pgfl.config.recipe import Recipe
    from pgfl.pose.settings import PoseSettings
    from pgfl.reporting.paper.feature_table import write_feature_table

    torch.set_num_threads(1)  # counting is little work, and the rule asks for one core
    files = json_files(evaluations, "--evaluations")
    given = json_settings(recipes, "--recipes")
    parsed = {name: Recipe.parse(one, name) for name, one in given.items()}
    settings = PoseSettings.parse(json_settings(pose, "--pose"), "pose")
    outputs = Outputs.beside(out, markdown=markdown, trace=trace)
    write_feature_table(files, parsed, settings, experiment, outputs)


@app.command("speed-table")
def speed_table(
    model: Path,
    manifest: Path,
    out: Csv,
    branches: Annotated[Path, typer.Option(help="branches.safetensors of the model's own run.")],
    experiment: Annotated[str, typer.Option(help="Where the model is from.")],
    weights: Annotated[
        Path | None,
        typer.Option(help="The pose network's checkpoint; without it nothing with pose is timed."),
    ] = None,
    pose: Annotated[str, typer.Option(help="JSON: settings of the pose network.")] = "{}",
    threads: Threads = 2,
    markdown: Markdown = None,
    trace: Trace = None,
) -> None:
    """Write Table 9: seconds per query on this machine, which should have nothing else to do."""
    import torch

    from pgfl.pose.settings import PoseSettings
    from pgfl.reporting.paper.speed_table import Trained, write_speed_table

    torch.set_num_threads(threads)
    parsed = PoseSettings.parse(json_settings(pose, "--pose"), "pose")
    files = Outputs.beside(out, markdown=markdown, trace=trace)
    with own_gpus():
        write_speed_table(Trained(model, branches, weights, parsed), manifest, experiment, files)


@app.command("response-figure")
def response_figure(
    manifest: Path,
    out: Out,
    students: Annotated[
        str, typer.Option(help='JSON: {"method": ["model.safetensors", ...]}, one per seed.')
    ],
    experiment: Annotated[str, typer.Option(help="Where the models are from.")],
    heatmaps: Annotated[
        Path | None, typer.Option(help="Heatmaps of split query: say what lies on body parts.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="A CSV for these shares; needs --heatmaps.")
    ] = None,
    threads: Threads = 2,
    trace: Trace = None,
) -> None:
    """Draw the responses of students to occluded queries as one PNG (Figures 1 and 4)."""
    import torch

    from pgfl.reporting.paper.response_figure import draw_responses

    if table is not None and heatmaps is None:
        raise UserError("--table: needs --heatmaps")
    torch.set_num_threads(threads)
    files = json_files(students, "--students")
    outputs = Outputs.beside(out, trace=trace)
    with own_gpus():
        draw_responses(files, manifest, experiment, outputs, heatmaps, table)


@dataclass(frozen=True)
class NetworkFiles:
    """What `diagnose` takes for each network."""

    model: Path
    branches: Path
    heatmaps: Path | None
    recipe: dict[str, Any]


@app.command("diagnose")
def diagnose(
    manifest: Path,
    networks: Annotated[
        str,
        typer.Option(
            help='JSON: {"variant": {"model": ..., "branches": ..., "heatmaps": ... or null, '
            '"recipe": {...}}}.'
        ),
    ],
    out: Csv,
    experiment: Experiment,
    seed: Annotated[int, typer.Option(min=0, help="The networks' own.")] = 0,
    threads: Threads = 2,
    markdown: Markdown = None,
    trace: Trace = None,
) -> None:
    """Look inside trained networks: lengths, attention, each loss's pull at the student."""
    import torch

    from pgfl.config.recipe import Recipe
    from pgfl.reporting.more.diagnosis import Trained, write_diagnosis

    torch.set_num_threads(threads)
    words = (
        '{"variant": {"model": "file", "branches": "file", "heatmaps": "file" or null, '
        '"recipe": {...}}}'
    )
    given = json_shaped(networks, "--networks", dict[str, NetworkFiles], words)
    if not given:
        raise UserError("--networks: names no network")
    trained = {
        name: Trained(one.model, one.branches, one.heatmaps, Recipe.parse(one.recipe, name))
        for name, one in given.items()
    }
    files = Outputs.beside(out, markdown=markdown, trace=trace)
    with own_gpus():
        write_diagnosis(trained, manifest, seed, experiment, files)


@app.command("ranked-lists")
def ranked_lists(
    manifest: Path, out: Out, queries: Queries, experiment: Experiment, trace: Trace = None
) -> None:
    """Draw the ranked lists of a test set's best, median and worst queries as one PNG."""
    from pgfl.reporting.more.ranked_lists import draw_ranked_lists_of

    files = json_files(queries, "--queries")
    draw_ranked_lists_of(files, manifest, experiment, Outputs.beside(out, trace=trace))


@app.command("failures")
def failures(
    manifest: Path,
    out: Out,
    queries: Queries,
    heatmaps: QueryHeatmaps,
    experiment: Experiment,
    trace: Trace = None,
) -> None:
    """Write the page of the worst queries: their ranked lists, and what is visible in them."""
    from pgfl.reporting.more.failures import write_failures

    files = json_files(queries, "--queries")
    write_failures(files, manifest, heatmaps, experiment, Outputs.beside(out, trace=trace))


@app.command("visibility")
def visibility(
    manifest: Path,
    out: Csv,
    queries: Queries,
    heatmaps: QueryHeatmaps,
    experiment: Experiment,
    figure: Figure = None,
    trace: Trace = None,
) -> None:
    """Write and draw Rank-1 and mAP by the number of visible keypoints."""
    from pgfl.reporting.more.visibility import write_visibility

    files = json_files(queries, "--queries")
    outputs = Outputs.beside(out, figure=figure, trace=trace)
    write_visibility(files, manifest, heatmaps, experiment, outputs)


@app.command("training-curves")
def training_curves(
    out: Out,
    histories: Annotated[
        str, typer.Option(help='JSON: {"method": ["history.csv", ...]}, one per seed.')
    ],
    experiment: Experiment,
    others: Annotated[str, typer.Option(help="The same for models in light grey.")] = "{}",
    trained_on: Annotated[str, typer.Option(help="The training set, for the title.")] = "",
    trace: Trace = None,
) -> None:
    """Draw every loss term over the epochs as one PNG."""
    from pgfl.reporting.more.training_curves import draw_training_curves
    from pgfl.reporting.paper.numbers import dataset_name

    draw_training_curves(
        json_files(histories, "--histories"),
        json_files(others, "--others", some=False),
        experiment,
        Outputs.beside(out, trace=trace),
        dataset_name(trained_on),
    )


@app.command("stress")
def stress(
    manifest: Path,
    out: Csv,
    students: Annotated[
        str, typer.Option(help='JSON: {"method": ["model.safetensors", ...]}, one per seed.')
    ],
    experiment: Experiment,
    shares: Annotated[
        str, typer.Option(help="Covered shares of the query, with commas between them.")
    ] = "0.1,0.2,0.3,0.4,0.5,0.6",
    metric: Annotated[str, typer.Option(help="cosine or euclidean.")] = "cosine",
    feature: Annotated[str, typer.Option(help="after_bnneck or before_bnneck.")] = "after_bnneck",
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    threads: Threads = 2,
    figure: Figure = None,
    trace: Trace = None,
) -> None:
    """Cover queries step by step from each side and rank again; write and draw what is left."""
    import torch

    from pgfl.config.experiment import EvaluationSettings
    from pgfl.reporting.more.stress_figure import write_stress

    torch.set_num_threads(threads)
    options = {"metric": metric, "feature": feature, "batch_size": batch_size}
    parsed = EvaluationSettings.parse(options, "evaluation")
    try:
        numbers = [float(share) for share in shares.split(",")]
    except ValueError as error:
        raise UserError(f"--shares: not a number ({error})") from None
    files = Outputs.beside(out, figure=figure, trace=trace)
    with own_gpus():
        write_stress(
            json_files(students, "--students"),
            manifest,
            numbers,
            experiment,
            files,
            metric=parsed.metric,
            after_norm=parsed.feature == "after_bnneck",
            batch_size=parsed.batch_size,
        )
