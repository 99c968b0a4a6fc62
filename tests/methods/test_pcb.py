"""PCB beside a naive form of its paper's Section 3.1."""

from functools import partial

import pytest
import torch
from torch.nn import functional

from pgfl.methods import pcb
from pgfl.networks.build import student_of
from pgfl.nn.batch import Batch
from pgfl.retrieval.parts import embedding_blocks


@pytest.fixture
def build(build_method):
    return partial(build_method, "pcb")


def batch_of(images):
    labels = torch.tensor([0, 0, 1, 1])
    return Batch(images, labels, torch.zeros_like(labels), None)


def test_a_stripe_is_the_mean_of_its_rows(build, images):
    network, _ = build(stripes=2)
    with torch.no_grad():
        feature_map = network.student.feature_map(images)  # 4 x 2 places
        found = network.student.stripes(feature_map)
    for image in range(4):
        for stripe in range(2):
            rows = feature_map[image, :, 2 * stripe : 2 * stripe + 2]
            expected = rows.sum(dim=(1, 2)) / 4
            torch.testing.assert_close(found[image, stripe], expected)


def test_every_stripe_has_a_reduction_and_a_classifier_of_its_own(build, images):
    network, _ = build(stripes=4, channels=16)
    features, logits = network(batch_of(images))
    assert list(features) == list(logits) == ["stripe1", "stripe2", "stripe3", "stripe4"]
    network.eval()
    with torch.no_grad():
        features, logits = network(batch_of(images))
        stripes = network.student.stripes(network.student.feature_map(images))
        for i, name in enumerate(features):
            reduction = network.student.reductions[i]
            norm, linear = reduction.norm, network.classifiers[name].classifier
            reduced = stripes[:, i] @ reduction.reduce.weight.T
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            expected = ((reduced - norm.running_mean) * scale + norm.bias).clamp_min(0)
            torch.testing.assert_close(features[name], expected, rtol=1e-4, atol=1e-5)
            wanted = expected @ linear.weight.T + linear.bias
            torch.testing.assert_close(logits[name], wanted, rtol=1e-4, atol=1e-6)


def test_the_loss_is_the_sum_of_the_stripes_cross_entropies(build, images):
    network, recipe = build()
    outputs = network(batch_of(images))
    found = pcb.losses(outputs, batch_of(images), recipe.settings)
    assert list(found) == [f"id_stripe{i}" for i in range(1, 7)]
    for i, name in enumerate(outputs.logits, start=1):
        probabilities = outputs.logits[name].softmax(dim=1)
        naive = -sum(probabilities[j, (0, 0, 1, 1)[j]].log() for j in range(4)) / 4
        torch.testing.assert_close(found[f"id_stripe{i}"], naive)


@pytest.mark.parametrize(("descriptor", "channels"), [("h", 6 * 256), ("g", 6 * 512)])
def test_the_students_vector_compares_as_the_stripes_do(build, images, descriptor, channels):
    network, recipe = build(descriptor=descriptor)
    network.eval()
    student = student_of(network, recipe)
    with torch.inference_mode():
        vectors, stripes = student(images), network.embed(images)
    assert vectors.shape == (4, channels) and student.channels == channels
    assert stripes.shape == (4, 6, channels // 6)
    (blocks,) = (block.copy() for block in embedding_blocks(stripes, stripes, "cosine", 4))
    cosines = functional.cosine_similarity(vectors[:, None], vectors[None], dim=2)
    torch.testing.assert_close(torch.from_numpy(blocks), 1 - cosines, rtol=1e-4, atol=1e-5)


def test_it_needs_no_pose(build):
    _, recipe = build()
    assert not recipe.settings.needs_heatmaps and recipe.student_method == "pcb"
    assert "pgfl.pose.store" in recipe.idle_code
