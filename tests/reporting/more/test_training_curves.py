import pandas as pd
import pytest
from PIL import Image

from pgfl.errors import UserError
from pgfl.reporting.more.training_curves import draw, draw_training_curves, heading, read_history
from pgfl.runtime.files import read_json

TERMS = {"id_global": 4.0, "triplet_global": 1.0}


@pytest.fixture
def write(tmp_path):
    """Writes a history of three epochs."""

    def make(name, terms=TERMS, plus=0.0):
        rows = [
            {
                "epoch": epoch,
                "learning_rate": 0.1 / epoch,
                "loss": sum(terms.values()) / epoch,
                **{term: value / epoch + plus for term, value in terms.items()},
            }
            for epoch in (1, 2, 3)
        ]
        pd.DataFrame(rows).to_csv(tmp_path / name, index=False)
        return tmp_path / name

    return make


@pytest.mark.parametrize(
    ("column", "title"),
    [
        ("id_global", "identity loss on $f_G$"),
        ("triplet_enhanced", "triplet loss on $f_E$"),
        ("cl", "consistency loss (Eq. 4)"),
        ("part_cl", "consistency loss with $f_P$ (Table 7)"),
        ("loss", "sum of the model's terms"),
        ("something_new", "something_new"),
        ("foo_global", "foo_global"),
    ],
)
def test_columns_have_readable_names(column, title):
    assert heading(column) == title


def test_every_term_has_a_panel_with_the_mean_over_seeds(write):
    more = TERMS | {"cl": 0.5}
    shown = {
        "Baseline": [read_history(write("a.csv", TERMS | {"gradient": 9.0}))],
        "PGFL-KD": [read_history(write(f"{i}.csv", more, plus=i)) for i in (0.0, 2.0)],
    }
    others = {"sab": [read_history(write("s.csv", TERMS | {"id_part": 2.0}))]}
    figure = draw(shown, others, "title")
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert list(panels) == [
        "sum of the model's terms",
        "identity loss on $f_G$",
        "triplet loss on $f_G$",
        "consistency loss (Eq. 4)",
        "identity loss on $f_P$",
        "gradient norm",
        "learning rate",
    ]
    curves = {line.get_label(): line for line in panels["identity loss on $f_G$"].get_lines()}
    assert list(curves) == ["the other models (sab)", "Baseline", "PGFL-KD"]
    assert list(curves["Baseline"].get_ydata()) == pytest.approx([4, 2, 4 / 3])
    assert list(curves["PGFL-KD"].get_ydata()) == pytest.approx([5, 3, 4 / 3 + 1])
    # Told apart without colours.
    assert curves["Baseline"].get_linestyle() != curves["PGFL-KD"].get_linestyle()
    assert curves["Baseline"].get_marker() != curves["PGFL-KD"].get_marker()
    (only,) = panels["consistency loss (Eq. 4)"].get_lines()
    assert only.get_label() == "PGFL-KD"


def test_the_picture_is_written_with_its_trace(write, tmp_path):
    shown, others = {"Baseline": [write("a.csv")]}, {"sab": [write("b.csv")]}
    draw_training_curves(shown, others, "demo", tmp_path / "curves.png", "Occluded-Duke")
    assert Image.open(tmp_path / "curves.png").width > 1000
    sources = read_json(tmp_path / "curves.trace.json")["sources"]
    assert set(sources) == {str(tmp_path / "a.csv"), str(tmp_path / "b.csv")}


def test_another_csv_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("epoch,loss\n1,2\n")
    with pytest.raises(UserError, match=r"x\.csv: not a history\.csv"):
        read_history(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1,0.1,abc", r"row 2: loss must be a number \(got 'abc'\)"),
        ("1,0.1,inf", r"row 2: loss must be a number \(got inf\)"),
        ("1,0.1,2\n2,,1", r"row 3: learning_rate must be a number \(got nothing\)"),
        ("1,0.1,2\n1,0.1,1", "an epoch stands twice"),
        ("", r"not a history\.csv"),
    ],
)
def test_a_history_that_cannot_be_drawn_is_named(tmp_path, rows, message):
    (tmp_path / "x.csv").write_text(f"epoch,learning_rate,loss\n{rows}\n")
    with pytest.raises(UserError, match=rf"x\.csv: {message}"):
        read_history(tmp_path / "x.csv")
