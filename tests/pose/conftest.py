import cv2
import numpy as np
import pytest

from pgfl.datasets.synthetic.crops import render
from pgfl.datasets.synthetic.identity import sample_identity


@pytest.fixture(scope="session")
def people():
    """32 drawn people the small HRNet was not trained on, and their true joints."""
    crops = []
    for index in range(32):
        crops.append(
            render(
                sample_identity(77, index),
                rng=np.random.default_rng([77, index]),
                camera=index % 8,
                camera_seed=77,
                size=(128, 64),
                occlusion="object" if index % 2 else "none",
                difficulty=0.4,
            )
        )
    return crops


@pytest.fixture
def person_folder(tmp_path, people):
    """A manifest of eight people; returns its path."""
    rows = ["image,split,pid,camid"]
    for index, crop in enumerate(people[:8]):
        cv2.imwrite(str(tmp_path / f"{index}.png"), cv2.cvtColor(crop.image, cv2.COLOR_RGB2BGR))
        rows.append(f"{index}.png,train,{index // 2},1")
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join(rows) + "\n")
    return path
