"""What every data set's module must say, so that all that is derived from it holds."""

import subprocess
import sys

import pytest

from pgfl.datasets.registry import DATASETS, NAMES, SOURCES, TRAIN_SET
from pgfl.runtime import provenance
from pgfl.runtime.provenance import code_hash

DATA = pytest.mark.parametrize("name", NAMES)


@DATA
def test_a_set_has_an_archive_that_can_be_drawn_or_images_of_another(name):
    data = DATASETS[name]
    assert (data.source is None) == (data.drawing is None)
    assert data.source or data.images_of in SOURCES
    if data.source:
        folders = tuple(data.layout.folders.values())
        assert data.source.holds == ((folders, data.lists) if data.lists else (folders,))
        assert data.source.title == data.title
    assert not data.images_of or data.images_of in SOURCES


@DATA
def test_it_can_be_trained_on_or_names_whose_models_are_tested_on_it(name):
    data, train = DATASETS[name], TRAIN_SET[name]
    assert TRAIN_SET[train] == train
    assert ("train" in data.published.counts) == (train == name)
    assert {"query", "gallery"} <= data.published.counts.keys()
    assert data.published.counts.keys() == data.layout.folders.keys()


def test_sets_of_other_images_have_other_people():
    drawn = {name: one for name, one in DATASETS.items() if one.drawing}
    own = [one.drawing.number for one in drawn.values() if not one.images_of]
    assert len(set(own)) == len(own)
    for one in drawn.values():
        if one.images_of:
            assert one.drawing.number == DATASETS[one.images_of].drawing.number


def test_titles_and_archives_are_told_apart():
    assert len({one.title for one in DATASETS.values()}) == len(DATASETS)
    assert len({source.name for source in SOURCES.values()}) == len(SOURCES)


def test_planning_needs_no_heavy_library(tmp_path):
    heavy = ("torch", "cv2", "numpy", "pandas", "PIL")
    script = f"import sys, pgfl.datasets.registry\nprint(set(sys.modules) & set({heavy}))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr


@DATA
def test_the_code_of_a_set_has_no_part_of_the_others(name):
    """Else an edit of one, or a new one, would list the images of all again."""
    found = provenance._closure(
        ("pgfl.datasets.manifest", "pgfl.datasets.archives", f"pgfl.datasets.{name}"),
        provenance.WITHOUT_NUMBERS,
    )
    others = {f"pgfl.datasets.{other}" for other in NAMES} & found
    assert others == {f"pgfl.datasets.{one}" for one in (name, DATASETS[name].images_of) if one}
    assert code_hash(f"pgfl.datasets.{name}") != code_hash("pgfl.datasets.manifest")
