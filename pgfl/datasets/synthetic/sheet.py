"""A contact sheet of synthetic people, to look at what is drawn.

python -m pgfl.datasets.synthetic.sheet --out people.png
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from pgfl.datasets.synthetic.crops import Occlusion, render
from pgfl.datasets.synthetic.identity import sample_identity
from pgfl.runtime.files import whole_file

COLUMNS: tuple[Occlusion, ...] = ("none",) * 6 + ("object",) * 2 + ("person",) * 2 + ("cut",) * 2


def sheet(people: int, difficulty: float, size: tuple[int, int]) -> np.ndarray:
    """A row for each person, seen by six cameras, then occluded and cut.

    Returns:
        uint8 (people * height, 12 * width, 3), RGB.
    """
    identities = [sample_identity(0, pid) for pid in range(people + 2)]
    rows = []
    for row in range(people):
        crops = [
            render(
                identities[row],
                rng=np.random.default_rng([row, column]),
                camera=column % 6,
                camera_seed=1,
                size=size,
                occlusion=occlusion,
                strangers=identities[row + 1 : row + 3],
                difficulty=difficulty,
            ).image
            for column, occlusion in enumerate(COLUMNS)
        ]
        rows.append(np.hstack(crops))
    return np.vstack(rows)


def main() -> None:
    """Write the sheet as a picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--people", type=int, default=5)
    parser.add_argument("--difficulty", type=float, default=0.4)
    parser.add_argument("--size", type=int, nargs=2, default=(128, 64), metavar=("H", "W"))
    options = parser.parse_args()
    picture = sheet(options.people, options.difficulty, tuple(options.size))
    with whole_file(options.out) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
