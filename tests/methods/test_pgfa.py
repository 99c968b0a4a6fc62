"""PGFA beside naive forms of its paper's Sections 3.2 and 3.3."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from pgfl.config.recipe import Recipe, nested
from pgfl.methods import pgfa
from pgfl.networks.build import backbone_of, student_of
from pgfl.nn.batch import Batch
from pgfl.retrieval.parts import embedding_blocks

LABELS = torch.tensor([0, 0, 1, 1])


@pytest.fixture
def build(build_method):
    return partial(build_method, "pgfa")


@pytest.fixture
def batch(images, heatmaps, confidence):
    """Sure and unsure parts; nobody in the last image."""
    confidence[3] = 0.1
    return Batch(images, LABELS, LABELS, heatmaps, confidence)


def maps_with_peaks(peaks, size):
    """Maps (1, K, H, W) with one peak each, which sum to one."""
    maps = torch.full((1, len(peaks), *size), 0.2 / (size[0] * size[1]))
    for part, (row, column) in enumerate(peaks):
        maps[0, part, row, column] += 0.8
    return maps


# The pose ----------------------------------------------------------------------------------------


def test_a_landmark_is_where_a_sure_parts_map_is_high():
    maps = torch.rand(3, 8, 6, 4)
    confidence = torch.rand(3, 8)
    found = pgfa.landmarks(maps, confidence, threshold=0.4, share=0.7)
    for n in range(3):
        for k in range(8):
            high = maps[n, k] >= 0.7 * maps[n, k].max()
            expected = high if confidence[n, k] > 0.4 else torch.zeros(6, 4, dtype=torch.bool)
            assert torch.equal(found[n, k], expected)


def naive_visibility(marks, stripes, least):
    """As the authors read their keypoints: by the height of each."""
    parts, height, width = marks.shape
    labels, sure = [0.0] * stripes, 0
    for part in range(parts):
        points = [(y, x) for y in range(height) for x in range(width) if marks[part, y, x]]
        sure += bool(points)
        for y, _ in points:
            for stripe in range(stripes):
                if stripe / stripes < (y + 0.5) / height < (stripe + 1) / stripes:
                    labels[stripe] = 1.0
    return labels if sure >= least else [1.0] * stripes


@pytest.mark.parametrize(("height", "stripes"), [(8, 3), (8, 4), (5, 2), (4, 6)])
def test_a_stripe_is_visible_where_a_landmark_lies_in_it(height, stripes):
    generator = torch.Generator().manual_seed(3)
    marks = torch.rand(20, 8, height, 3, generator=generator) > 0.98
    found = pgfa.visibility(marks, stripes, least=3)
    expected = [naive_visibility(one, stripes, 3) for one in marks]
    if (height, stripes) == (5, 2):  # the middle row lies on the border; it counts as the lower
        expected = [
            [upper, max(lower, float(one[:, 2].any()))]
            for (upper, lower), one in zip(expected, marks, strict=True)
        ]
    assert found.tolist() == expected
    assert 0 < found.mean() < 1


def test_a_picture_in_which_little_is_sure_is_all_visible():
    maps = maps_with_peaks([(0, 0)] * 8, (6, 2))
    confidence = torch.zeros(1, 8)
    for sure, expected in [(2, [1, 1, 1]), (3, [1, 0, 0])]:
        confidence[0, :sure] = 0.9
        marks = pgfa.landmarks(maps, confidence, 0.2, 0.5)
        assert pgfa.visibility(marks, 3, least=3).tolist() == [expected]


def test_the_guidance_is_a_gaussian_about_the_landmarks():
    marks = torch.zeros(2, 2, 8, 4, dtype=torch.bool)
    marks[0, 0, 1, 2] = marks[0, 0, 6, 0] = True
    found = pgfa.guidance(marks, (4, 3), sigma=(0.1, 0.2))
    for y in range(4):
        for x in range(3):
            ours = ((y + 0.5) / 4, (x + 0.5) / 3)
            bells = [
                math.exp(
                    -(((ours[0] - (row + 0.5) / 8) / 0.1) ** 2) / 2
                    - (((ours[1] - (column + 0.5) / 4) / 0.2) ** 2) / 2
                )
                for row, column in ((1, 2), (6, 0))
            ]
            assert found[0, 0, y, x].item() == pytest.approx(max(bells), rel=1e-4, abs=1e-9)
    assert torch.equal(found[0, 1], torch.zeros(4, 3)), "a part that is not sure"
    assert torch.equal(found[1], torch.ones(2, 4, 3)), "an image in which no part is sure"


def test_maps_that_are_the_same_everywhere_guide_nothing():
    flat = torch.full((1, 8, 96, 32), 1 / (96 * 32))
    marks = pgfa.landmarks(flat, torch.ones(1, 8), 0.2, 0.5)
    assert torch.equal(pgfa.visibility(marks, 3, 3), torch.ones(1, 3))
    assert (pgfa.guidance(marks, (24, 8), (0.064, 0.128)) > 0.98).all()


# The network -------------------------------------------------------------------------------------


def test_the_features_are_the_papers(build, batch):
    network, recipe = build(stripes=2, channels=16, dropout=0)
    network.eval()
    with torch.no_grad():
        features, logits = network(batch)
        feature_map = network.student.feature_map(batch.images).double()
    assert list(features) == list(logits) == ["global", "stripe1", "stripe2"]
    assert all(feature.shape == (4, 16) for feature in features.values())
    assert all(one.shape == (4, 5) for one in logits.values())
    height, width = feature_map.shape[2:]
    marks = pgfa.landmarks(batch.heatmaps, batch.confidence, 0.2, 0.5)
    weights = pgfa.guidance(marks, (height, width), recipe.settings.sigma).double()
    for n in range(4):
        mean = feature_map[n].sum(dim=(1, 2)) / (height * width)
        guided = [(feature_map[n] * one).sum(dim=(1, 2)) / (height * width) for one in weights[n]]
        whole = torch.cat([mean, torch.stack(guided).max(dim=0).values])
        stripes = [feature_map[n, :, :2].mean(dim=(1, 2)), feature_map[n, :, 2:].mean(dim=(1, 2))]
        reductions = [network.student.reduction, *network.reductions.values()]
        for name, feature, reduction in zip(features, [whole, *stripes], reductions, strict=True):
            linear, norm = reduction.reduce, reduction.norm
            reduced = linear.weight.double() @ feature
            scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            expected = (reduced - norm.running_mean) * scale + norm.bias
            torch.testing.assert_close(
                features[name][n].double(), expected.detach(), rtol=1e-4, atol=1e-5
            )


def test_the_loss_weighs_the_stripes_and_the_global_feature(build, batch):
    network, recipe = build(lambda_part=0.3)
    outputs = network(batch)
    found = pgfa.losses(outputs, batch, recipe.settings)
    assert list(found) == ["id_global", "id_stripe1", "id_stripe2", "id_stripe3"]
    for name, logits in outputs.logits.items():
        naive = 0.0
        for row, label in zip(logits.double().tolist(), LABELS.tolist(), strict=True):
            naive -= math.log(math.exp(row[label]) / sum(map(math.exp, row))) / 4
        naive *= 0.7 if name == "global" else 0.3
        assert found[f"id_{name}"].item() == pytest.approx(naive, rel=1e-5)


@pytest.mark.parametrize("pose", [True, False])
def test_gradients_reach_all_parameters(build, batch, pose):
    network, recipe = build(pose=pose)
    terms = pgfa.losses(network(batch), batch, recipe.settings)
    sum(terms.values()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_dropout_is_there_in_training_only(build, batch):
    network, _ = build()
    drops = [module for module in network.modules() if isinstance(module, torch.nn.Dropout)]
    assert len(drops) == 2 * 4 and all(drop.p == 0.5 for drop in drops)
    network.eval()
    with torch.no_grad():
        first, second = network(batch), network(batch)
    assert torch.equal(first.logits["global"], second.logits["global"])


# Matching ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [16, 600], ids=["shorter", "longer than a stripe"])
def test_the_distance_is_the_mean_over_what_both_show(build, images, channels):
    network, recipe = build(channels=channels)
    network.eval()
    rows = [(0, 1, 2), (0, 1, 5), (3, 4, 5), (2, 2, 5)]
    maps = torch.cat([maps_with_peaks([(row, 1) for row in some], (6, 2)) for some in rows])
    maps, confidence = torch.cat([maps, maps], dim=1)[:, :6], torch.full((4, 6), 0.9)
    seen = [(1, 1, 0), (1, 0, 1), (0, 1, 1), (0, 1, 1)]
    with torch.no_grad():
        embedding = network.embed(images, maps, confidence)
        feature_map = network.student.feature_map(images)
        stripes = network.student.stripes(feature_map).double()
        marks = pgfa.landmarks(maps, confidence, 0.2, 0.5)
        weights = pgfa.guidance(marks, (4, 2), recipe.settings.sigma)
        whole = network.student.whole(feature_map, weights).double()
    assert embedding.shape == (4, 4, max(512, channels))
    assert embedding.visibility.tolist() == [[*some, 1] for some in seen]
    (found,) = (block.copy() for block in embedding_blocks(embedding, embedding, "cosine", 4))
    (squares,) = (block.copy() for block in embedding_blocks(embedding, embedding, "euclidean", 4))
    for q in range(4):
        for g in range(4):
            total, weight = 1 - torch.cosine_similarity(whole[q], whole[g], dim=0), 1
            for stripe in range(3):
                both = seen[q][stripe] * seen[g][stripe]
                cosine = torch.cosine_similarity(stripes[q, stripe], stripes[g, stripe], dim=0)
                total, weight = total + both * (1 - cosine), weight + both
            assert found[q, g] == pytest.approx((total / weight).item(), abs=1e-6)
            assert squares[q, g] == pytest.approx(2 * found[q, g], abs=1e-5)


def test_each_image_is_described_by_itself(build, batch):
    network, _ = build()
    network.eval()
    with torch.no_grad():
        together = network.embed(batch.images, batch.heatmaps, batch.confidence)
        for n in range(4):
            row = slice(n, n + 1)
            alone = network.embed(batch.images[row], batch.heatmaps[row], batch.confidence[row])
            torch.testing.assert_close(alone.vectors[0], together.vectors[n], rtol=0, atol=1e-5)
            assert torch.equal(alone.visibility[0], together.visibility[n])


def test_with_the_pose_no_student_is_left(build):
    network, recipe = build()
    settings = recipe.settings
    assert settings.needs_heatmaps and settings.needs_heatmaps_at_test
    assert student_of(network, recipe) is None
    assert backbone_of(network, recipe) is network.student.backbone


def test_without_the_pose_a_student_matches_as_the_features_do(build, images):
    network, recipe = build(pose=False)
    settings = recipe.settings
    assert not settings.needs_heatmaps and not settings.needs_heatmaps_at_test
    assert "pgfl.nn.part_pooling" in recipe.idle_code
    network.eval()
    student = student_of(network, recipe)
    with torch.inference_mode():
        vectors, embedding = student(images), network.embed(images)
    assert vectors.shape == (4, student.channels) == (4, 3 * 512 + 256)
    assert embedding.shape == (4, 4, 512) and embedding.visibility is None
    (blocks,) = (block.copy() for block in embedding_blocks(embedding, embedding, "cosine", 4))
    cosines = torch.cosine_similarity(vectors[:, None], vectors[None], dim=2)
    np.testing.assert_allclose(blocks, 1 - cosines, atol=1e-5)


def test_settings_that_training_never_reads_count_as_their_defaults():
    def trained(**settings):
        return Recipe.parse(nested({"method": "pgfa"} | settings)).as_trained().settings

    assert trained(pose=False, threshold=0.5, sigma=(0.1, 0.1)) == trained(pose=False)
    assert trained(threshold=0.5) != trained()
    # Read at test time, from the recipe of the training.
    assert trained(min_landmarks=4) != trained()
