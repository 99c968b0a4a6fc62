"""The rows of Table 8. Imported by the Snakefile, so it stays light."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FeatureRow:
    """Matching with one feature of one variant."""

    variant: str
    feature: str

    @property
    def needs_pose(self) -> bool:
        """Whether HRNet has to see every test image."""
        return self.feature != "global"


FEATURE_TEST_SET = "occluded_duke"

FEATURE_ROWS = {
    "Global Feature f_G (Baseline)": FeatureRow("baseline", "global"),
    "Global Feature f_G (PGFL-KD)": FeatureRow("pgfl_kd", "global"),
    "Body Part Feature f_P": FeatureRow("pgfl_kd", "part"),
    "Body Part Fused Feature f_V": FeatureRow("pgfl_kd", "fused"),
    "Foreground Feature f_F": FeatureRow("pgfl_kd", "foreground"),
    "Foreground Fused Feature f_E": FeatureRow("pgfl_kd", "enhanced"),
}
"""By the paper's names of them."""
