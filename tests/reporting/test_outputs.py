from pathlib import Path

import pytest

from pgfl.errors import UserError
from pgfl.reporting.outputs import Outputs


def test_what_is_not_named_lies_beside_the_main_file():
    files = Outputs.beside(Path("results/table2.csv"), trace=Path("results/why.trace.json"))
    assert files == Outputs(
        Path("results/table2.csv"),
        Path("results/table2.md"),
        Path("results/table2.png"),
        Path("results/why.trace.json"),
    )
    assert Outputs.of(Path("results/table2.csv")).trace == Path("results/table2.trace.json")
    assert Outputs.of(files) is files


def test_files_of_two_folders_are_refused():
    with pytest.raises(UserError, match=r"^b/x\.md: must lie in the folder of a/x\.csv$"):
        Outputs.beside(Path("a/x.csv"), markdown=Path("b/x.md"))
    Outputs.beside(Path("a/x.csv"), markdown=Path("a/../a/x.md"))


def test_two_files_of_one_name_are_refused():
    with pytest.raises(UserError, match=r"x\.csv: each output needs a name of its own"):
        Outputs.beside(Path("x.csv"), figure=Path("x.csv"))
