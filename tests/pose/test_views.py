from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from pgfl.pose.estimators import ESTIMATORS, SMALL_WEIGHTS
from pgfl.pose.hrnet import PoseNetwork, estimate, load_estimator, ready
from pgfl.pose.keypoints import KEYPOINT_MIRROR
from pgfl.pose.settings import PoseSettings
from pgfl.pose.views import CropView, TopdownView, make_view, mirrored_back, moved

SHAPES = [(128, 64), (96, 64), (300, 90), (80, 120), (61, 23), (2, 2)]
"""Crops upright, wide, small and odd."""


@pytest.fixture(scope="module")
def small():
    return load_estimator("hrnet_small", SMALL_WEIGHTS)


@pytest.fixture(scope="module")
def w32():
    """MMPose's own W32 with random weights, which is all that its arithmetic needs."""
    torch.manual_seed(0)
    network = PoseNetwork("hrnet_w32_256x192")
    network.eval()
    return network


def prepared(view, images):
    return torch.from_numpy(np.stack([view.prepare(image) for image in images]))


def own_maps(network, estimator, images, flip_test):
    """The raw maps in the warped frame, as `estimate` computes them before it warps back."""
    view = make_view(PoseSettings(estimator=estimator, view="topdown"), network.shift_flipped)
    with torch.inference_mode():
        inputs = prepared(view, images)
        maps = network(inputs)
        return view.averaged(maps, network(inputs.flip(2))) if flip_test else maps


def mmposes_maps(network, images, flip_test):
    """The maps of MMPose's own inference_topdown, image by image."""
    import mmpose
    from mmengine.config import Config
    from mmpose.apis import inference_topdown
    from mmpose.datasets.datasets.utils import parse_pose_metainfo

    size = ESTIMATORS["hrnet_w32_256x192"].input_size[::-1]
    pipeline = [
        {"type": "LoadImage"},
        {"type": "GetBBoxCenterScale"},
        {"type": "TopdownAffine", "input_size": size},
        {"type": "PackPoseInputs"},
    ]
    coco = Path(mmpose.__file__).parent / ".mim/configs/_base_/datasets/coco.py"
    model = network.network
    model.cfg = Config({"test_dataloader": {"dataset": {"pipeline": pipeline}}})
    model.dataset_meta = parse_pose_metainfo({"from_file": str(coco)})
    model.test_cfg = {**model.test_cfg, "flip_test": flip_test, "output_heatmaps": True}
    # MMPose reads BGR, as OpenCV does, and turns it round itself.
    results = [inference_topdown(model, image[:, :, ::-1].copy())[0] for image in images]
    return torch.stack([torch.as_tensor(r.pred_fields.heatmaps) for r in results])


@pytest.mark.parametrize("flip_test", [False, True])
def test_topdown_maps_are_those_of_mmposes_own_inference(w32, flip_test):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES]
    theirs = mmposes_maps(w32, images, flip_test)
    own = own_maps(ready(deepcopy(w32)), "hrnet_w32_256x192", images, flip_test)
    assert own.shape == theirs.shape == (len(images), 17, 64, 48)
    assert theirs.std() > 0.05
    assert (own - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("shape", [(128, 64), (300, 90), (80, 120)])
@pytest.mark.parametrize("centre", [0.0, 1.5])
def test_a_map_warped_back_lies_where_its_pixel_was(shape, centre):
    """A bright dot is sent through the warp; its map is brought back to the dot's place."""
    view = TopdownView((256, 192), centre, (96, 32), shift_flipped=False)
    height, width = shape
    for y, x in ((height // 4, width // 3), (3 * height // 4, 2 * width // 3)):
        image = np.zeros((height, width, 3), np.uint8)
        image[y - 2 : y + 3, x - 2 : x + 3] = 255
        bright = torch.from_numpy(view.prepare(image)[..., 0].astype(np.float32))
        # What an estimator would say: cell i is the brightness around pixel 4 i + centre.
        smooth = torch.nn.functional.avg_pool2d(bright[None, None], 5, 1, padding=2)
        if centre:
            # Between pixels 1 and 2 of the four lies the mean of both.
            smooth = torch.nn.functional.avg_pool2d(smooth[..., 1:, 1:], 2, 1)
        maps = smooth[0, 0, ::4, ::4]
        back = view.restored(maps.expand(1, 17, 64, 48), np.array([shape]))[0, 5]
        assert back.shape == (96, 32)
        mass = back / back.sum()
        found_y = (mass.sum(1) * (torch.arange(96) + 0.5)).sum() / 96 * height
        found_x = (mass.sum(0) * (torch.arange(32) + 0.5)).sum() / 32 * width
        # Within half a pixel of the estimator's input.
        pixel = 0.5 * 1.25 * max(height / 256, width / 192)
        assert abs(found_y - (y + 0.5)) < pixel and abs(found_x - (x + 0.5)) < pixel


def test_topdown_keeps_the_aspect_and_pads_a_quarter():
    image = np.full((200, 50, 3), 255, np.uint8)
    inside = TopdownView((256, 192), 0.0, (96, 32), False).prepare(image)[..., 0] > 127
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert len(rows) == pytest.approx(256 / 1.25, abs=1)
    assert len(columns) == pytest.approx(256 / 1.25 / 4, abs=1)


def test_the_crop_is_only_resized():
    image = np.random.default_rng(0).integers(0, 256, (128, 64, 3), dtype=np.uint8)
    view = CropView((128, 64), 1.5)
    assert view.prepare(image) is image
    maps = torch.rand(2, 17, 32, 16)
    assert view.restored(maps, np.array([(1, 2), (3, 4)])) is maps


def test_both_views_see_the_same_joints_in_the_same_places(small, people):
    images = [crop.image for crop in people]
    joints = torch.from_numpy(np.stack([crop.joints for crop in people]))
    seen = torch.from_numpy(np.stack([crop.visible for crop in people]))
    for name in ("crop", "topdown"):
        settings = PoseSettings(estimator="hrnet_small", view=name, height=128, width=64)
        view = make_view(settings, small.shift_flipped)
        shapes = np.array([image.shape[:2] for image in images])
        maps = estimate(small, view, prepared(view, images), shapes)
        assert maps.shape == (32, 17, 32, 16)
        best = maps.flatten(2).argmax(dim=2)
        places = torch.stack([best % 16, best // 16], dim=2) * 4 + 1.5
        near = (places - joints).norm(dim=2) < 0.2 * 0.25 * 128
        assert near[seen].float().mean() > (0.85 if name == "crop" else 0.6)


@pytest.mark.parametrize("centre", [0.0, 1.5])
def test_the_flip_test_commutes_with_mirroring_exactly(small, people, centre):
    """Through the real network: maps of the mirrored crop = mirrored maps of the crop."""
    view = CropView((128, 64), centre)
    images = torch.from_numpy(np.stack([crop.image for crop in people[:6]]))
    shapes = np.full((6, 2), (128, 64))
    maps = estimate(small, view, images, shapes, flip_test=True)
    mirrored = estimate(small, view, images.flip(2), shapes, flip_test=True)
    torch.testing.assert_close(mirrored_back(mirrored), maps, rtol=0, atol=1e-6)
    # It would not without swapping left and right.
    assert (mirrored.flip(3) - maps).abs().max() > 0.3


def test_mirroring_back_swaps_columns_and_sides():
    maps = torch.rand(1, 17, 3, 5)
    back = mirrored_back(maps)
    for keypoint, y, x in np.ndindex(17, 3, 5):
        assert back[0, keypoint, y, x] == maps[0, KEYPOINT_MIRROR[keypoint], y, 4 - x]


@pytest.mark.parametrize("step", [0.0, 0.375, 1.0])
def test_moved_maps_are_linear_samples(step):
    maps = torch.rand(1, 2, 4, 5, dtype=torch.float64)
    result = moved(maps, step)
    for k, y, x in np.ndindex(2, 4, 5):
        expected = 0.0
        for dy, wy in ((0, 1 - step), (1, step)):
            for dx, wx in ((0, 1 - step), (1, step)):
                expected += wy * wx * maps[0, k, min(y + dy, 3), min(x + dx, 4)].item()
        assert result[0, k, y, x].item() == pytest.approx(expected)


def test_half_precision_changes_little(small, people):
    view = CropView((128, 64), 1.5)
    images = torch.from_numpy(np.stack([crop.image for crop in people[:6]]))
    shapes = np.full((6, 2), (128, 64))
    exact, half = (estimate(small, view, images, shapes, precision=p) for p in ("fp32", "half"))
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().max() < 0.05
