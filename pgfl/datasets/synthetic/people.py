"""Who is seen where in a drawn data set, before anything is drawn.

The data sets' modules plan their shots with it. Planning imports those, so NumPy is imported only
where it is used.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from pgfl.datasets.synthetic.settings import SyntheticSettings

Occlusion = Literal["none", "object", "person", "cut", "mixed"]


@dataclass(frozen=True)
class Shot:
    """One image to draw."""

    member: str
    """Path in the archive; its suffix decides the image format."""
    pid: int
    camera: int
    occlusion: Occlusion = "none"


class Sighting(NamedTuple):
    """A person before a camera."""

    pid: int
    camera: int
    index: int
    """Counts the sightings by the same camera."""
    chance: float
    """In [0, 1); decides whether the person is occluded in it."""


@dataclass(frozen=True)
class People:
    """The people of one drawn data set, and when which camera sees them."""

    settings: SyntheticSettings
    number: int
    """Sets people and cameras apart from those of the other data sets."""

    def with_cameras(self, most: int) -> "People":
        """The same people before at most so many cameras."""
        cameras = min(self.settings.cameras, most)
        return replace(self, settings=self.settings.model_copy(update={"cameras": cameras}))

    @property
    def test_only(self) -> range:
        """The pids of a set that nobody trains on."""
        return range(1, self.settings.test_identities + 1)

    def split(self) -> tuple[list[int], list[int]]:
        """Train and test pids, mixed over one range as in the real sets."""
        import numpy as np

        train = self.settings.train_identities
        rng = np.random.default_rng([self.settings.population, self.number])
        mixed = [int(pid) + 1 for pid in rng.permutation(train + self.settings.test_identities)]
        return sorted(mixed[:train]), sorted(mixed[train:])

    def strangers(self, share: float) -> range:
        """Pids that are neither trained on nor asked for, as a share of the test people."""
        last = self.settings.train_identities + self.settings.test_identities
        return range(last + 1, last + 1 + round(share * self.settings.test_identities))

    def sightings(self, pid: int) -> list[Sighting]:
        """All sightings of a person, by several cameras in turn."""
        import numpy as np

        rng = np.random.default_rng([self.settings.population, self.number, pid, 1])
        cameras = rng.permutation(self.settings.cameras)[: max(2, self.settings.images // 3)]
        return [
            Sighting(
                pid, int(cameras[index % len(cameras)]), index // len(cameras), float(rng.random())
            )
            for index in range(self.settings.images)
        ]

    def train_query_gallery(self, shot: Callable[[str, Sighting], Shot]) -> list[Shot]:
        """The shots of a set with a training split.

        Each camera's first sighting of a test person is a query, the others are gallery.

        Args:
            shot: makes a shot of a split (train, query or gallery) and a sighting.
        """
        train, test = self.split()
        shots = [shot("train", seen) for pid in train for seen in self.sightings(pid)]
        for seen in (seen for pid in test for seen in self.sightings(pid)):
            shots.append(shot("gallery" if seen.index else "query", seen))
        return shots
