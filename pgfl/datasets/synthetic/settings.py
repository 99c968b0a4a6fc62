"""How large and how hard the synthetic data sets are."""

from pydantic import Field

from pgfl.runtime.settings import Settings


class SyntheticSettings(Settings):
    """Sizes of the drawn stand-ins for the real archives."""

    seed: int = Field(0, ge=0)
    people: int = Field(0, ge=0)
    """Another number draws other people before the same cameras: queries that a trained model, and
    who chose its settings, have never seen."""
    difficulty: float = Field(0.5, ge=0, le=1)
    """0 is nearly frontal on plain ground; 1 is very hard."""
    height: int = Field(128, ge=32, le=4096)
    """Height in pixels of the crops in the archives."""
    width: int = Field(64, ge=16, le=4096)
    # At most what the real sets' file names have digits for.
    train_identities: int = Field(40, ge=4, le=6000)
    test_identities: int = Field(24, ge=4, le=999)
    images: int = Field(12, ge=4, le=99)
    """Images of an identity, spread over its cameras."""
    cameras: int = Field(6, ge=2, le=8)

    @property
    def population(self) -> int:
        """The seed of all that is drawn but the cameras."""
        return self.seed + (self.people << 32)
