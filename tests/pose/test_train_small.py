import numpy as np
import pytest
import torch

from pgfl.pose.hrnet import load_estimator
from pgfl.pose.train_small import HELD_OUT, area_under_curve, draw, save, score, targets, train


def test_targets_peak_at_visible_joints_only():
    joints = torch.full((1, 17, 2), 1.5)
    joints[0, 3] = torch.tensor([21.5, 101.5])
    visible = torch.zeros(1, 17, dtype=torch.bool)
    visible[0, 3] = True
    maps = targets(joints, visible)
    assert maps.shape == (1, 17, 32, 16)
    assert maps[0, 3, 25, 5] == maps[0, 3].max() == 1
    assert maps[0, torch.arange(17) != 3].max() == 0


def test_area_under_curve_agrees_with_counting_pairs():
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 9, 30) / 3, rng.integers(0, 7, 20) / 3
    pairs = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    assert area_under_curve(positive, negative) == pytest.approx(np.mean(pairs))


def test_a_few_steps_lower_the_loss_and_what_is_saved_loads(tmp_path, capsys):
    training = [torch.from_numpy(part) for part in draw(64, 0)]
    model = train(*training, epochs=4, batch=16)
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in said(capsys)]
    assert losses[-1] < losses[0]
    save(model, tmp_path / "small.safetensors")
    assert (tmp_path / "small.safetensors").stat().st_size < 4e6
    loaded = load_estimator("hrnet_small", tmp_path / "small.safetensors")
    report = score(loaded, *(torch.from_numpy(part) for part in draw(16, HELD_OUT)))
    assert 0 <= report["pck_torso"] <= report["pck_box"] <= 1 and report["images"] == 16


def said(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]


def test_a_perfect_network_scores_one():
    images, joints, visible = (torch.from_numpy(part) for part in draw(8, 0))
    whole = torch.round((joints - 1.5) / 4) * 4 + 1.5

    class Oracle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, _):
            return targets(whole, visible)

    report = score(Oracle(), images, whole, visible)
    assert report["pck_box"] == report["pck_torso"] == 1
    assert report["visibility_auc"] > 0.99
