"""What the module of a data set says of it, in one record.

Nothing heavy is imported: the Snakefile asks, too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pgfl.datasets.folders import Layout
from pgfl.datasets.listing import Listing, Published
from pgfl.datasets.synthetic.people import People, Shot
from pgfl.untrusted.obtain import Source


@dataclass(frozen=True)
class Drawing:
    """How the demo draws an archive."""

    number: int
    """Sets people and cameras apart from those of the other data sets: one for each, unless the
    images are the same."""
    shots: Callable[[People], list[Shot]] = lambda people: []
    """The images to draw."""
    extras: Callable[[People], dict[str, bytes]] = lambda people: {}
    """Other files of the archive: their names and contents."""


@dataclass(frozen=True)
class DataSet:
    """All that is known of a data set."""

    title: str
    """What papers call it."""
    read: Callable[[Path], Listing]
    """Lists the images below a folder."""
    published: Published
    """What the published archive must hold."""
    layout: Layout
    """Of its images, as they are laid out."""
    source: Source | None = None
    """Its archive; None where its images are altered ones of `images_of`."""
    drawing: Drawing | None = None
    """How the demo draws that archive; None where there is none."""
    lists: tuple[str, ...] = ()
    """The files that its archive may hold in place of images: lists of images of `images_of`."""
    images_of: str = ""
    """The data set whose images it is made from; empty: it has its own."""
    models_of: str = ""
    """The data set whose models are tested on it; empty: it has a training split of its own."""
    printed: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Identities and images of a split in Table 1, where they are not those of `published`."""

    def printed_counts(self) -> dict[str, tuple[int, int]]:
        """Identities and images of each split, as Table 1 of the paper has them."""
        counts = self.published.counts.items()
        return {split: (one.identities, one.images) for split, one in counts} | self.printed
