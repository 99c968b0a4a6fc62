"""PVPM beside naive forms of its paper's Sections 3.1, 3.2 and 3.5."""

import math

import pytest
import torch

from pgfl.losses.part_matching import part_matching_losses
from pgfl.methods import pvpm
from pgfl.networks.build import backbone_of, student_of
from pgfl.nn.batch import Batch
from pgfl.nn.embedding import Embedding
from pgfl.retrieval.own import OwnDistance
from pgfl.retrieval.parts import embedding_blocks

LABELS = torch.tensor([0, 0, 1, 1])


@pytest.fixture
def build(build_method):
    def make(**settings):
        network, recipe = build_method("pvpm", **settings)
        # As after some training: scores that differ, and a shift where ReLU has left no pose.
        torch.nn.init.normal_(network.pose.visibility[0].weight)
        return network, recipe

    return make


@pytest.fixture
def batch(images, heatmaps, confidence):
    return Batch(images, LABELS, LABELS, heatmaps, confidence)


def test_the_pose_is_as_high_as_it_is_sure(heatmaps):
    confidence = torch.rand(4, 8)
    found = pvpm.encoded(heatmaps, confidence, (8, 4))
    torch.testing.assert_close(found.amax(dim=(2, 3)), confidence)
    for n in range(4):
        for k in range(8):
            expected = heatmaps[n, k] / heatmaps[n, k].max() * confidence[n, k]
            torch.testing.assert_close(found[n, k], expected)
    assert pvpm.encoded(heatmaps, confidence, (16, 12)).shape == (4, 8, 16, 12)


def test_each_place_belongs_to_one_part(build, batch):
    network, _ = build(parts=3)
    network.eval()
    poses = torch.rand(4, 8, 24, 8)
    with torch.no_grad():
        attention, visibility = network.pose(poses)
        seen = network.pose.trunk(poses)
        raw = network.pose.attention(seen)
    assert attention.shape == (4, 3, 6, 2) and visibility.shape == (4, 3)
    assert (visibility > 0).all() and (visibility < 1).all()
    for n in range(4):
        for y in range(6):
            for x in range(2):
                there = raw[n, :, y, x].tolist()
                winner = there.index(max(there))
                expected = [one if i == winner else 0 for i, one in enumerate(there)]
                assert attention[n, :, y, x].tolist() == expected


def test_a_part_is_the_mean_under_its_attention(build, batch):
    network, _ = build(parts=4)
    network.eval()
    with torch.no_grad():
        feature_map = network.backbone(network.normalize(batch.images))
        parts, visibility = network.described(feature_map, batch.heatmaps, batch.confidence)
        poses = pvpm.encoded(batch.heatmaps, batch.confidence, (16, 8))
        attention, expected_visibility = network.pose(poses)
        features, _ = network(batch)
    assert torch.equal(visibility, expected_visibility)
    assert torch.equal(features["parts"], parts)
    for n in range(4):
        for p in range(4):
            weights = attention[n, p].double()
            total = (feature_map[n].double() * weights).sum(dim=(1, 2)) / 8
            expected = total / (weights.sum() / 8 + 1e-6)
            torch.testing.assert_close(parts[n, p].double(), expected, rtol=1e-4, atol=1e-5)


def test_the_stripes_are_a_pcbs_and_the_parts_are_read_by_its_layers(build, batch):
    network, _ = build(parts=2, channels=16)
    network.eval()
    with torch.no_grad():
        features, logits = network(batch)
        feature_map = network.backbone(network.normalize(batch.images))
        halves = [feature_map[:, :, :2].mean(dim=(2, 3)), feature_map[:, :, 2:].mean(dim=(2, 3))]
        assert list(logits) == ["stripe1", "stripe2", "part1", "part2"]
        for i in range(2):
            reduction, classifier = network.reductions[i], network.classifiers[i]
            for name, feature in [("stripe", halves[i]), ("part", features["parts"][:, i])]:
                expected = classifier(reduction(feature))
                torch.testing.assert_close(
                    logits[f"{name}{i + 1}"], expected, rtol=1e-4, atol=1e-6
                )


def test_the_loss_is_the_sum_of_four_kinds(build, batch):
    network, recipe = build(parts=3, rate=0.8)
    outputs = network(batch)
    found = pvpm.losses(outputs, batch, recipe.settings)
    names = [f"{kind}{i}" for kind in ("stripe", "part") for i in (1, 2, 3)]
    assert list(found) == [*(f"id_{name}" for name in names), "matching", "visibility"]
    for name in names:
        naive = 0.0
        for row, label in zip(outputs.logits[name].tolist(), LABELS.tolist(), strict=True):
            naive -= math.log(math.exp(row[label]) / sum(map(math.exp, row))) / 4
        assert found[f"id_{name}"].item() == pytest.approx(naive, rel=1e-5)
    features = outputs.features
    expected = part_matching_losses(features["parts"], features["visibility"], LABELS, 0.8)
    assert (found["matching"], found["visibility"]) == expected


def test_stripes_train_the_pcb_and_parts_the_poses_network(build, batch):
    network, recipe = build(parts=3)
    terms = pvpm.losses(network(batch), batch, recipe.settings)
    groups = {
        "stripes": [term for name, term in terms.items() if name.startswith("id_stripe")],
        "parts": [term for name, term in terms.items() if not name.startswith("id_stripe")],
    }
    of_pose = {name for name, _ in network.named_parameters() if name.startswith("pose.")}
    reached = {}
    for name, some in groups.items():
        network.zero_grad()
        sum(some).backward(retain_graph=True)
        reached[name] = {
            key
            for key, parameter in network.named_parameters()
            if parameter.grad is not None and parameter.grad.abs().max() > 0
        }
    assert reached["parts"] == of_pose
    assert reached["stripes"] == {name for name, _ in network.named_parameters()} - of_pose


def test_several_parts_of_a_batch_may_go_forward_before_one_goes_backward(build, batch):
    network, recipe = build(parts=2)
    halves = [batch.mapped(lambda rows, at=at: rows[at : at + 2]) for at in (0, 2)]
    terms = [pvpm.losses(network(half), half, recipe.settings) for half in halves]
    sum(value for term in terms for value in term.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_the_distance_is_weighted_by_both_images_visibility(build, batch):
    network, _ = build(parts=4)
    network.eval()
    with torch.no_grad():
        query = network.embed(batch.images, batch.heatmaps, batch.confidence)
    assert query.shape == (4, 4, 512) and query.visibility.shape == (4, 4)
    vectors = query.vectors.clone()
    vectors[0, 1] = vectors[1, 1] = 0  # found nowhere
    query = Embedding(vectors, query.visibility)
    gallery = query[[2, 0, 1]]
    own = OwnDistance(network.distance, torch.device("cpu"))
    (found,) = (block.copy() for block in embedding_blocks(query, gallery, own, 4))
    for q in range(4):
        for g in range(3):
            total = weight = 0.0
            for p in range(4):
                both = query.visibility[q, p].item() * gallery.visibility[g, p].item()
                gap = query.vectors[q, p].double() - gallery.vectors[g, p].double()
                total, weight = total + both * gap.square().sum().item(), weight + both
            assert found[q, g] == pytest.approx(total / weight, abs=1e-6)
    hidden = Embedding(query.vectors, torch.zeros(4, 4))
    assert torch.equal(network.distance(hidden, gallery), torch.full((4, 3), 4.0))


def test_each_image_is_described_by_itself(build, batch):
    network, _ = build()
    network.eval()
    with torch.no_grad():
        together = network.embed(batch.images, batch.heatmaps, batch.confidence)
        for n in range(4):
            row = slice(n, n + 1)
            alone = network.embed(batch.images[row], batch.heatmaps[row], batch.confidence[row])
            torch.testing.assert_close(alone.vectors[0], together.vectors[n], rtol=0, atol=1e-5)
            torch.testing.assert_close(alone.visibility[0], together.visibility[n])


def test_half_precision_leaves_the_pose_exact(build, batch):
    network, recipe = build()
    network.eval()
    with torch.no_grad():
        expected = network(batch).features["visibility"]
        with torch.autocast("cpu", torch.bfloat16):
            outputs = network(batch)
            terms = pvpm.losses(outputs, batch, recipe.settings)
    assert torch.equal(outputs.features["visibility"], expected)
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())


def test_no_student_is_left(build):
    network, recipe = build()
    settings = recipe.settings
    assert settings.needs_heatmaps and settings.needs_heatmaps_at_test
    assert student_of(network, recipe) is None
    assert backbone_of(network, recipe) is network.backbone
