import pytest
from matplotlib.figure import Figure
from PIL import Image

from pgfl.reporting.styles import marked, save_figure


def line() -> Figure:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    return figure


def test_equal_figures_are_equal_files_whatever_the_library_is(tmp_path):
    first, second = tmp_path / "new" / "first.png", tmp_path / "second.png"
    save_figure(line(), first)
    save_figure(line(), second)
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as picture:
        assert picture.size == (240, 120)
        assert "Software" not in picture.info


def test_the_resolution_is_pixels_per_inch(tmp_path):
    save_figure(line(), tmp_path / "fine.png", dpi=150)
    with Image.open(tmp_path / "fine.png") as picture:
        assert picture.size == (300, 150)


def test_a_figure_that_cannot_be_drawn_leaves_the_picture_as_it_was(tmp_path):
    path = tmp_path / "picture.png"
    save_figure(line(), path)
    before = path.read_bytes()
    broken = line()
    broken.suptitle("$\\undefined$")
    with pytest.raises(ValueError, match="undefined"):
        save_figure(broken, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_only_the_papers_experiment_goes_without_a_warning():
    assert marked("Figure 3", "paper") == "Figure 3"
    assert marked("Figure 3", "study") == "Figure 3 (study: not the paper's experiment)"
