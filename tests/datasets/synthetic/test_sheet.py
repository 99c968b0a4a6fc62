import sys

import numpy as np

from pgfl.datasets.images import read_image
from pgfl.datasets.synthetic.sheet import COLUMNS, main, sheet


def test_a_row_for_each_person_and_a_column_for_each_occlusion(tmp_path, monkeypatch):
    picture = sheet(people=2, difficulty=0.4, size=(48, 24))
    assert picture.shape == (2 * 48, len(COLUMNS) * 24, 3)
    target = tmp_path / "people.png"
    monkeypatch.setattr(
        sys, "argv", ["sheet", "--out", str(target), "--people", "2", "--size", "48", "24"]
    )
    main()
    assert np.array_equal(read_image(target), picture)
