"""Table 8: what each feature reaches, and what matching with it costs."""

from pathlib import Path

import pandas as pd

from pgfl.config.recipe import Recipe
from pgfl.errors import UserError
from pgfl.pose.settings import EXTERNAL, PoseSettings
from pgfl.reporting.complexity import (
    Complexity,
    measure_feature,
    measure_last_stage,
    measure_pose_network,
)
from pgfl.reporting.evaluations import (
    COMPARABLE_KEYS,
    Measured,
    check_comparable,
    protocol_note,
    read_evaluations,
)
from pgfl.reporting.outputs import Outputs
from pgfl.reporting.paper.features import FEATURE_ROWS, FEATURE_TEST_SET, FeatureRow
from pgfl.reporting.paper.numbers import read_published
from pgfl.reporting.paper.tables import (
    data_warning,
    markdown,
    reproduced_numbers,
    save_table,
    traced,
)
from pgfl.reporting.trace import save_trace

TITLE = "Features for matching, and what inference costs"
NOTE = (
    "`macs`: billions of multiply-accumulates per image, of convolutions and matrix products; "
    "`parameters`: millions, of what runs at test time (no classifier). Both hold all that the "
    "feature needs: f_G needs the student alone, every other feature also HRNet on every image "
    "of the query and the gallery. `without_pose_network`: the same less HRNet. Percent over "
    "the seeds: mean, and standard deviation (`std`). `chance_mAP` is what random features "
    "reach."
)
EXTERNAL_NOTE = (
    " The heatmaps are another program's files, so nothing is known of what its network costs: "
    "the cells that would hold it are empty."
)
NO_NECK = (
    " Matched as they are, for they have no ReID loss and so no BNNeck: {methods}. The others are "
    "matched after theirs."
)
PAPER_SIZES = """
## The same at the paper's sizes

Counted now, with ResNet-50 and HRNet-W48 at {height}x{width} (weights do not matter for counting):

{table}
The paper's {printed_macs} G and {printed_parameters} M for f_G are more than this network costs. \
Arithmetic suggests, though the authors do not say so, that they count a second copy of the last \
stage: `layer4` alone is {stage_macs} G and {stage_parameters} M, which added gives {both_macs} G \
and {both_parameters} M. Batch normalisation at two operations an element, and a small embedding \
layer with its classifier, would be the rest. The difference between their features with and \
without pose, {pose_gap} G, is HRNet-W48's {pose_macs} G within the same margin (at 256x192 it \
costs as much as at 384x128, for both have as many pixels). If that is so, \
the student here matches for about two thirds of the operations that the paper prints.

Their f_P and f_F cost as many operations as f_V and f_E, so f_G seems to be computed beside \
them; ours leave out what a feature does not need. Their part branch (f_P less f_F) holds \
{part_printed} M parameters, three times the {part_counted} M of the matrices that the text \
describes. And f_V and f_E hold 1.4 M more than f_P and f_F, as much as a classifier of 702 \
identities, which ours are counted without. These, too, are inferences from arithmetic.
"""

COLUMNS = (f"{FEATURE_TEST_SET}.rank1", f"{FEATURE_TEST_SET}.mAP")

Cost = tuple[Complexity | None, Complexity]
"""With and without the pose network; None where that network is another program's."""


def write_feature_table(
    evaluations: dict[str, list[Path]],
    recipes: dict[str, Recipe],
    pose: PoseSettings,
    experiment: str,
    out: Path | Outputs,
) -> None:
    """Write `table8.csv`, its Markdown and its trace.

    Args:
        evaluations: for each method of `FEATURE_ROWS`, one evaluation file per seed.
        recipes: of the variants in `FEATURE_ROWS`; `model` and `loss` are read.
        pose: the experiment's pose network; `external` leaves the cells empty that it would fill.
        experiment: where the numbers are from; anything but `paper` is marked as such.
        out: the CSV; the others lie beside it unless they are named. Percentages have one
            decimal, costs three.

    Raises:
        UserError: an evaluation or a recipe is missing, a file cannot be read or is not what it is
            given as, or a variant lacks a feature.
    """
    for row in FEATURE_ROWS.values():
        if row.variant not in recipes:
            raise UserError(f"no recipe of {row.variant} is given")
    published = read_published(8)
    printed = published.set_index("method")
    published.insert(1, "source", "published")
    costs = _costs(recipes, pose)
    measurements = _read_needed(evaluations)
    rows, cells = [], []
    for method, some in measurements.items():
        measured = {FEATURE_TEST_SET: some}
        numbers = reproduced_numbers(COLUMNS, measured, experiment)
        cost = _cost_columns(*costs[method])
        rows.append({"method": method, "source": "reproduced"} | cost | numbers)
        cells += traced(method, numbers, COLUMNS, measured)
    # The reproduced rows have all the columns, in the order of the table.
    columns = list(rows[0])
    table = pd.concat([published, pd.DataFrame(rows)], ignore_index=True)[columns].fillna("")
    heading = f"# Table 8: {TITLE}\n\n{data_warning(experiment)}{_note(measurements, pose)}\n\n"
    files = Outputs.of(out)
    save_table(table, files, heading, ending=_at_the_papers_sizes(recipes, printed))
    save_trace(files.trace, [files.main, files.markdown], experiment, cells)


def _read_needed(evaluations: dict[str, list[Path]]) -> dict[str, list[Measured]]:
    """The evaluations of each row, one per seed, all measured alike but for their BNNecks."""
    measurements = {
        method: read_evaluations(
            evaluations.get(method, ()), row.variant, FEATURE_TEST_SET, row.feature
        )
        for method, row in FEATURE_ROWS.items()
    }
    for some in measurements.values():
        check_comparable([some])
    check_comparable(
        list(measurements.values()), [key for key in COMPARABLE_KEYS if key != "feature"]
    )
    return measurements


def _note(measurements: dict[str, list[Measured]], pose: PoseSettings) -> str:
    """What the columns mean, and how the features were matched."""
    bare = [m for m, some in measurements.items() if some[0].report.get("feature") == "no_bnneck"]
    matched = NO_NECK.format(methods=", ".join(bare)) if bare else ""
    unknown = EXTERNAL_NOTE if pose.estimator == EXTERNAL else ""
    return NOTE + unknown + matched + protocol_note(next(iter(measurements.values()))[0])


def _costs(recipes: dict[str, Recipe], pose: PoseSettings) -> dict[str, Cost]:
    pose_network = None if pose.estimator == EXTERNAL else measure_pose_network(pose)

    def cost(row: FeatureRow) -> Cost:
        own = measure_feature(recipes[row.variant], row.feature, pose)
        if not row.needs_pose:
            return own, own
        return (None if pose_network is None else own + pose_network), own

    return {method: cost(row) for method, row in FEATURE_ROWS.items()}


def _cost_columns(whole: Complexity | None, own: Complexity) -> dict[str, str]:
    return {
        "macs": "" if whole is None else _billions(whole.macs),
        "parameters": "" if whole is None else _millions(whole.parameters),
        "macs.without_pose_network": _billions(own.macs),
        "parameters.without_pose_network": _millions(own.parameters),
    }


def _at_the_papers_sizes(recipes: dict[str, Recipe], printed: pd.DataFrame) -> str:
    pose = PoseSettings(estimator="hrnet_w48", height=384, width=128)
    size = {"backbone": "resnet50", "height": pose.height, "width": pose.width, "last_stride": 1}
    recipes = {
        name: recipe.model_copy(update={"model": recipe.model.model_copy(update=size)})
        for name, recipe in recipes.items()
    }
    costs = _costs(recipes, pose)
    rows = [
        {
            "method": method,
            "source": "counted",
            **_cost_columns(*cost),
            "macs as printed": printed.loc[method, "macs"],
            "parameters as printed": printed.loc[method, "parameters"],
        }
        for method, cost in costs.items()
    ]
    baseline, foreground = "Global Feature f_G (Baseline)", "Foreground Feature f_F"
    stage = measure_last_stage(recipes["baseline"])
    both = costs[baseline][0] + stage
    gap = float(printed.loc[foreground, "macs"]) - float(printed.loc[baseline, "macs"])
    part = "Body Part Feature f_P"
    part_gap = float(printed.loc[part, "parameters"]) - float(
        printed.loc[foreground, "parameters"]
    )
    whole, own = costs[foreground]
    return PAPER_SIZES.format(
        height=pose.height,
        width=pose.width,
        table=markdown(pd.DataFrame(rows)),
        printed_macs=printed.loc[baseline, "macs"],
        printed_parameters=printed.loc[baseline, "parameters"],
        stage_macs=_billions(stage.macs),
        stage_parameters=_millions(stage.parameters),
        both_macs=_billions(both.macs),
        both_parameters=_millions(both.parameters),
        pose_gap=f"{gap:.2f}",
        pose_macs=_billions(whole.macs - own.macs),
        part_printed=f"{part_gap:.2f}",
        part_counted=_millions(costs[part][0].parameters - whole.parameters),
    )


def _billions(number: int) -> str:
    return f"{number / 1e9:.3f}"


def _millions(number: int) -> str:
    return f"{number / 1e6:.3f}"
