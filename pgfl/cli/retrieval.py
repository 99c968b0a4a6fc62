"""The command of the evaluation stage."""

from pathlib import Path
from typing import Annotated

import typer

from pgfl.cli.arguments import Out, Threads
from pgfl.errors import UserError
from pgfl.runtime.machine import own_gpus

app = typer.Typer()


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
            help="The feature to match with: global (the method's own), or part, fused, "
            "foreground or enhanced, which need the three files below."
        ),
    ] = "global",
    branches: Annotated[
        Path | None,
        typer.Option(
            help="branches.safetensors of the model's own run: to match with the whole network, "
            "as a method without a student needs it."
        ),
    ] = None,
    heatmaps_query: Annotated[Path | None, typer.Option(help="Heatmaps of split query.")] = None,
    heatmaps_gallery: Annotated[
        Path | None, typer.Option(help="Heatmaps of split gallery.")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(help="A CSV of every query's AP, first match and nearest images (global)."),
    ] = None,
    train_set: Annotated[
        str | None, typer.Option(help="Noted in the file: what it was trained on.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Noted: the name of the test set.")] = None,
    variant: Annotated[str | None, typer.Option(help="Noted: the model's variant.")] = None,
    method: Annotated[str | None, typer.Option(help="Noted: the variant's method.")] = None,
    seed: Annotated[int | None, typer.Option(help="Noted: the seed of the training.")] = None,
    threads: Threads = 2,
) -> None:
    """Evaluate a model on the query and gallery images of a manifest."""
    import torch

    from pgfl.config.experiment import EvaluationSettings

    if queries is not None and use != "global":
        raise UserError(f"--queries: only with the student's own feature, not with --use {use}")
    torch.set_num_threads(threads)
    options = {
        "metric": metric,
        "feature": feature,
        "batch_size": batch_size,
        "protocol": protocol,
        "rerank": rerank,
    }
    parsed = EvaluationSettings.parse(options, "evaluation")
    stores = {"query": heatmaps_query, "gallery": heatmaps_gallery}
    if use != "global" and (branches is None or None in stores.values()):
        raise UserError(f"--use {use}: needs --branches, --heatmaps-query and --heatmaps-gallery")
    given = [split for split, store in stores.items() if store is not None]
    if given and (branches is None or len(given) < len(stores)):
        raise UserError(
            f"--heatmaps-{given[0]}: goes with --branches, and with the heatmaps of both splits"
        )
    run = _said(train_set=train_set, dataset=dataset, variant=variant, method=method, seed=seed)
    with own_gpus():
        if branches is None:
            from pgfl.retrieval.stage import run_evaluation

            report = run_evaluation(
                model, manifest, out, **parsed.model_dump(), queries=queries, run=run
            )
        else:
            from pgfl.retrieval.guided import run_guided_evaluation

            report = run_guided_evaluation(
                model,
                manifest,
                out,
                use=use,
                branches=branches,
                heatmaps=stores if given else None,
                **parsed.model_dump(),
                queries=queries,
                run=run,
            )
    print(f"{out}: Rank-1 {report['rank1']:.1f}, mAP {report['mAP']:.1f}")


@app.command("score")
def score(
    features: Annotated[
        Path, typer.Argument(help=".npz with names and features, or .npy with --names.")
    ],
    manifest: Path,
    out: Out,
    names: Annotated[
        Path | None, typer.Option(help="Beside a .npy: the images' names, one per line.")
    ] = None,
    metric: Annotated[str, typer.Option(help="cosine or euclidean.")] = "cosine",
    protocol: Annotated[str, typer.Option(help="multi_shot or single_shot.")] = "multi_shot",
    rerank: Annotated[bool, typer.Option(help="Re-rank by k-reciprocal neighbours.")] = False,
    queries: Annotated[
        Path | None, typer.Option(help="A CSV of every query's AP, first match, nearest images.")
    ] = None,
    train_set: Annotated[
        str | None, typer.Option(help="Noted in the file: what it was trained on.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Noted: the name of the test set.")] = None,
    variant: Annotated[str | None, typer.Option(help="Noted: the model's name.")] = None,
    seed: Annotated[int | None, typer.Option(help="Noted: the seed of the training.")] = None,
    threads: Threads = 2,
) -> None:
    """Evaluate features of another program on the query and gallery images of a manifest."""
    import torch

    from pgfl.config.experiment import EvaluationSettings
    from pgfl.retrieval.foreign import score_features

    torch.set_num_threads(threads)
    how = {"metric": metric, "protocol": protocol, "rerank": rerank}
    parsed = EvaluationSettings.parse(how, "evaluation")
    report = score_features(
        features,
        manifest,
        out,
        names=names,
        metric=parsed.metric,
        protocol=parsed.protocol,
        rerank=parsed.rerank,
        queries=queries,
        run=_said(train_set=train_set, dataset=dataset, variant=variant, seed=seed),
    )
    print(f"{out}: Rank-1 {report['rank1']:.1f}, mAP {report['mAP']:.1f}")


def _said(**options: object) -> dict[str, object]:
    """What an evaluation is of, as far as it was said."""
    return {key: value for key, value in options.items() if value is not None}
