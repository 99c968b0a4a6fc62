"""What a data set holds, and what it must hold.

Nothing heavy is imported: the Snakefile asks, too.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """One image."""

    image: str
    """Path below the manifest's folder, with forward slashes."""
    split: str
    pid: int
    camid: int


@dataclass(frozen=True)
class Listing:
    """What a data set's folder holds."""

    entries: list[Entry]
    problems: list[str] = field(default_factory=list)
    """Files that do not belong, a line each; raised together with all other findings."""


@dataclass(frozen=True)
class Counts:
    """Identities, images and cameras of one split."""

    identities: int
    images: int
    cameras: int

    def __str__(self) -> str:
        return f"{self.identities} ids, {self.images} images, {self.cameras} cameras"


@dataclass(frozen=True)
class Published:
    """What a data set must have, as published."""

    counts: dict[str, Counts]
    """For each split, junk left out."""
    names_sha256: str = ""
    """`names_hash` of the table; empty where it is not known."""
    names: dict[str, frozenset[str]] = field(default_factory=dict)
    """For each split its file names, where a rule makes them."""
    images_sha256: str = ""
    """`images_hash` of the table; empty where it is not known."""
