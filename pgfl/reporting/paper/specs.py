"""Which runs each table of the paper needs. Imported by the Snakefile, so it stays light."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True)
class TableSpec:
    """One table of the paper."""

    title: str
    columns: tuple[str, ...]
    """`{test set}.{metric}`, as the paper's table has them."""
    reproduced: dict[str, str]
    """The method's name in our rows, and the variant that it is."""
    compared: tuple[tuple[str, str], ...] = (("PGFL-KD", "Baseline"),)
    """Pairs of methods: the first is what the paper says to be better than the second."""
    labels: tuple[str, ...] = ()
    """Columns of words that the paper has before the numbers."""
    has_peers: bool = False
    """Whether other methods may stand between the baseline and PGFL-KD."""

    @property
    def test_sets(self) -> tuple[str, ...]:
        """The test sets of the columns, in their order."""
        return tuple(dict.fromkeys(column.split(".")[0] for column in self.columns))

    def with_peers(self, variants: Iterable[str]) -> Self:
        """The table with rows for other methods, and PGFL-KD compared with each of them, too.

        Args:
            variants: theirs; those that the table has already are passed over. A table of
                PGFL-KD's own parts stays as it is.
        """
        new = {
            PEERS.get(variant, variant): variant
            for variant in variants
            if variant not in self.reproduced.values()
        }
        if not self.has_peers or not new:
            return self
        first, *rest = self.reproduced.items()
        compared = (*self.compared, *(("PGFL-KD", method) for method in new))
        return replace(self, reproduced=dict([first, *new.items(), *rest]), compared=compared)


PEERS = {
    "pcb": "PCB",
    "pgfa": "PGFA",
    "pgfa_no_pose": "PGFA w/o pose",
    "pvpm": "PVPM",
    "horeid": "HOReID",
}
"""For the variants of other methods, the names that the paper's tables have for them."""

PUBLISHED_AS = {"PGFL-KD": "PGFL-KD (Ours)"}
"""Methods that the paper's tables call otherwise than our rows do."""

MODELS = {
    "1 (Baseline)": "baseline",
    "2 (MB+SAB)": "sab",
    "3 (MB+SAB w/ I)": "sab_i",
    "4 (MB+SAB w/ IM)": "sab_im",
    "5 (MB-SAB+FEB)": "sab_im_feb",
    "6 (MB-SAB+FEB w/ C)": "pgfl_kd",
}
"""Table 6: each model has one thing more than the one before."""

BOTH = {"Baseline": "baseline", "PGFL-KD": "pgfl_kd"}
"""Tables 2 to 5: the two methods that the paper measured itself."""

TABLES: dict[int, TableSpec] = {
    2: TableSpec(
        title="Comparison with state-of-the-art methods on two occluded data sets",
        columns=(
            "occluded_duke.rank1", "occluded_duke.mAP", "occluded_reid.rank1", "occluded_reid.mAP"
        ),
        reproduced=BOTH,
        has_peers=True,
    ),
    3: TableSpec(
        title="Comparison with state-of-the-art methods on two partial data sets",
        columns=(
            "partial_reid.rank1", "partial_reid.rank3",
            "partial_ilids.rank1", "partial_ilids.rank3",
        ),
        reproduced=BOTH,
        has_peers=True,
    ),
    4: TableSpec(
        title="Comparison with state-of-the-art methods on Partial-Duke",
        columns=(
            "partial_duke.rank1", "partial_duke.rank5", "partial_duke.rank10", "partial_duke.mAP"
        ),
        reproduced=BOTH,
        has_peers=True,
    ),
    5: TableSpec(
        title="Comparison with state-of-the-art methods on two holistic data sets",
        columns=("market1501.rank1", "market1501.mAP", "dukemtmc_reid.rank1", "dukemtmc_reid.mAP"),
        reproduced=BOTH,
        has_peers=True,
    ),
    6: TableSpec(
        title="What each part of the method contributes, on Occluded-Duke",
        columns=("occluded_duke.rank1", "occluded_duke.mAP"),
        reproduced=MODELS,
        # Each model against the one before it, and against the baseline.
        compared=(
            *zip(list(MODELS)[1:], list(MODELS)[:-1], strict=True),
            *((model, "1 (Baseline)") for model in list(MODELS)[2:]),
        ),
        labels=("sab.S", "sab.I", "sab.M", "feb.S", "feb.C"),
    ),
    7: TableSpec(
        title="Distilling from the part branch by consistency or by contrast, on Occluded-Duke",
        columns=("occluded_duke.rank1", "occluded_duke.mAP"),
        reproduced={
            "MB + FEB + SAB w L_CL": "pgfl_kd_part_cl",
            "MB + FEB + SAB w L_MCL": "pgfl_kd",
        },
        compared=(("MB + FEB + SAB w L_MCL", "MB + FEB + SAB w L_CL"),),
    ),
}  # fmt: skip

SWEPT_ON = "occluded_duke"
"""Figure 3: the data set on which the weights of the losses are varied."""


def comparison_spec(
    name: str, variants: Sequence[str], against: str, test_sets: Sequence[str]
) -> TableSpec:
    """A table of some variants on some test sets, each variant against one of them.

    Args:
        name: the title's.
        variants: the rows, in this order.
        against: the one of them that the others are compared with.
        test_sets: Rank-1 and mAP on each are the columns.
    """
    return TableSpec(
        title=f"Comparison: {name}",
        columns=tuple(f"{test_set}.{m}" for test_set in test_sets for m in ("rank1", "mAP")),
        reproduced={variant: variant for variant in variants},
        compared=tuple((variant, against) for variant in variants if variant != against),
    )
