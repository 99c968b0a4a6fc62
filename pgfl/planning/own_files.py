"""The user's own archives, folders, photographs and weights, as far as they are seen from here.

The Snakefile imports this, so it stays light.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pgfl.config.experiment import Config
from pgfl.config.sources import WEIGHTS
from pgfl.datasets.archives import stamp as stamp_of_folder
from pgfl.datasets.registry import SOURCES
from pgfl.datasets.taken import stamp_of
from pgfl.errors import UserError
from pgfl.untrusted.obtain import find as find_source


def sizes(paths: Iterable[str]) -> list[int]:
    """Sizes in bytes: a file that is replaced by an older one has no newer time."""
    return [Path(path).stat().st_size for path in paths]


@dataclass(frozen=True, eq=False)
class OwnFiles:
    """What a configuration finds among the user's files; each data set is looked up once."""

    config: Config

    @cache  # noqa: B019 (lives as long as the command)
    def source(self, dataset: str) -> Path | None:
        """The archive or unpacked folder of a data set.

        Raises:
            UserError: several could be meant, or the folder cannot be read.
        """
        own = self.config.archives.files.get(dataset)
        folder = Path(self.config.archives.folder)
        return find_source(SOURCES[dataset], folder, Path(own) if own else None)

    def archive(self, dataset: str) -> list[str]:
        """The archive of a data set, if it comes in one.

        Raises:
            UserError: as of `source`.
        """
        own = self.source(dataset)
        return [str(own)] if own is not None and own.is_file() else []

    def unpacked(self, dataset: str) -> str:
        """The folder that a data set lies in unpacked; nothing where it comes in an archive.

        Raises:
            UserError: as of `source`.
        """
        own = None if self.config.is_synthetic(dataset) else self.source(dataset)
        return str(own) if own is not None and own.is_dir() else ""

    def packed(self, dataset: str) -> list[str]:
        """The archive, in the workflow's own folder, that a data set is unpacked from, if it is.

        Raises:
            UserError: as of `source`.
        """
        if self.unpacked(dataset):
            return []
        return [f"data/{self.config.experiment}/archives/{SOURCES[dataset].name}"]

    def place(self, dataset: str) -> str:
        """The folder or archive that a data set is laid out from.

        Raises:
            UserError: as of `source`.
        """
        return self.unpacked(dataset) or self.packed(dataset)[0]

    @cache  # noqa: B019 (lives as long as the command)
    def unpacked_stamp(self, dataset: str) -> str:
        """Another value where files of an unpacked data set came, went or changed.

        Raises:
            UserError: the folder does not hold the data set, or holds it twice.
        """
        folder = self.unpacked(dataset)
        try:
            return stamp_of_folder(dataset, Path(folder)) if folder else ""
        except UserError as error:
            raise UserError(f"{SOURCES[dataset].title}: {error}") from error

    def images_folder(self, dataset: str) -> str:
        """The folder that the image names of a user's own table start from."""
        return str(self.config.datasets[dataset].files[1])

    def photographs_stamp(self, dataset: str) -> str:
        """Another value where listed photographs are no longer those that were taken.

        Raises:
            UserError: a photograph that was taken is gone.
        """
        table, images = self.config.datasets[dataset].files
        try:
            return stamp_of(table, images, Path(f"data/{self.config.experiment}/{dataset}"))
        except UserError as error:
            raise UserError(f"setting datasets.{dataset}: {error}") from error

    def weights(self, network: str) -> list[str]:
        """The user's copy of a weights file, if there is one."""
        copy = Path(self.config.archives.folder, WEIGHTS[network].name)
        return [str(copy)] if copy.is_file() else []
