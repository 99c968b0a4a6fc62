"""The files of one result: a table, a picture or a page, and the trace of its numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pgfl.errors import UserError


@dataclass(frozen=True)
class Outputs:
    """Where each file of a result goes. No result has all of them.

    All lie in one folder, since a trace names the files that it is of without their folder.
    """

    main: Path
    """The CSV of a table, the PNG of a picture, the HTML of a page."""
    markdown: Path
    """A table for reading."""
    figure: Path
    """The picture of a table."""
    trace: Path
    """What the numbers came from (`pgfl.reporting.trace`)."""

    @classmethod
    def beside(
        cls,
        main: Path,
        *,
        markdown: Path | None = None,
        figure: Path | None = None,
        trace: Path | None = None,
    ) -> Self:
        """The files of a result; what is not named has the main file's name, but its own suffix.

        Raises:
            UserError: they do not lie in one folder, or two of them are the same.
        """
        given = [file for file in (main, markdown, figure, trace) if file is not None]
        for file in given[1:]:
            if file.parent.resolve() != main.parent.resolve():
                raise UserError(f"{file}: must lie in the folder of {main}")
        if len({file.name for file in given}) < len(given):
            raise UserError(f"{main}: each output needs a name of its own")
        return cls(
            main,
            markdown or main.with_suffix(".md"),
            figure or main.with_suffix(".png"),
            trace or main.with_suffix(".trace.json"),
        )

    @classmethod
    def of(cls, out: "Path | Outputs") -> "Outputs":
        """The same, where a writer is given the main file alone."""
        return cls.beside(out) if isinstance(out, Path) else out
