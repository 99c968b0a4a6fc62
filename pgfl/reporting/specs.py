"""Which runs each table of the paper needs. Imported by the Snakefile, so it stays light."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TableSpec:
    """One table of the paper."""

    title: str
    columns: tuple[str, ...]
    """`{test set}.{metric}`, as the paper's table has them."""
    reproduced: dict[str, str]
    """The method's name in our rows, and the variant that it is."""

    @property
    def test_sets(self) -> tuple[str, ...]:
        """The test sets of the columns, in their order."""
        return tuple(dict.fromkeys(column.split(".")[0] for column in self.columns))


TABLES: dict[int, TableSpec] = {
    2: TableSpec(
        title="Comparison with state-of-the-art methods on two occluded data sets",
        columns=(
            "occluded_duke.rank1", "occluded_duke.mAP", "occluded_reid.rank1", "occluded_reid.mAP"
        ),
        reproduced={"Baseline": "baseline", "PGFL-KD": "pgfl_kd"},
    ),
}  # fmt: skip
