import math

import pytest
import torch

from pgfl.losses.multi_part_contrastive import POSITIVES, multi_part_contrastive_loss
from pgfl.pose.keypoints import PARTS

PAIRS = (frozenset({0}), frozenset({1, 2}), frozenset({1, 2}))


def naive(student, teacher, positives, temperature, normalized):
    """Eq. 5 in the paper's words: image by image, part by part, group by group."""
    parts = len(positives)
    size = student.shape[1] // parts
    total = 0.0
    for f_g, f_p in zip(student, teacher, strict=True):
        for i in range(parts):
            above = below = 0.0
            part = f_p[i * size : (i + 1) * size]
            for j in range(parts):
                group = f_g[j * size : (j + 1) * size]
                dot = sum(group * part)
                if normalized:
                    dot = dot / torch.sqrt(sum(group**2)) / torch.sqrt(sum(part**2))
                term = torch.exp(dot / temperature)
                below = below + term
                above = above + (term if j in positives[i] else 0)
            total = total - torch.log(above / below)
    return total / len(student)


@pytest.mark.parametrize(
    ("positives", "images", "size"),
    [(PAIRS, 1, 1), (PAIRS, 4, 5), (POSITIVES, 2, 4), (POSITIVES, 3, 7)],
)
@pytest.mark.parametrize(("normalized", "temperature"), [(True, 0.1), (True, 0.5), (False, 1.0)])
def test_is_equation_5(assert_agrees, positives, images, size, normalized, temperature):
    torch.manual_seed(images * size)
    shape = (images, len(positives) * size)
    teacher = torch.randn(shape)
    options = (positives, temperature, normalized)
    student = torch.randn(shape)
    if size == 1 and normalized:
        # The direction of a number is its sign, which has no slope: only the value is left.
        value = multi_part_contrastive_loss(student, teacher, *options)
        expected = naive(student.double(), teacher.double(), *options)
        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-6)
        return
    assert_agrees(
        lambda s: multi_part_contrastive_loss(s, teacher, *options),
        lambda s: naive(s, teacher.double(), *options),
        student,
    )


def test_the_positives_are_a_part_and_its_mirror_image():
    named = {PARTS[i]: {PARTS[j] for j in group} for i, group in enumerate(POSITIVES)}
    assert named == {
        "head": {"head"},
        "torso": {"torso"},
        "left_lower_arm": {"left_lower_arm", "right_lower_arm"},
        "right_lower_arm": {"left_lower_arm", "right_lower_arm"},
        "left_knee": {"left_knee", "right_knee"},
        "right_knee": {"left_knee", "right_knee"},
        "left_ankle": {"left_ankle", "right_ankle"},
        "right_ankle": {"left_ankle", "right_ankle"},
    }


def test_groups_of_a_symmetric_pair_may_be_exchanged():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 8, 6).unbind()
    swapped = student.clone()
    left, right = PARTS.index("left_ankle"), PARTS.index("right_ankle")
    swapped[:, [left, right]] = student[:, [right, left]]
    loss = multi_part_contrastive_loss(student.flatten(1), teacher.flatten(1))
    again = multi_part_contrastive_loss(swapped.flatten(1), teacher.flatten(1))
    torch.testing.assert_close(again, loss)
    head = PARTS.index("head")
    swapped[:, [left, head]] = student[:, [head, left]]
    other = multi_part_contrastive_loss(swapped.flatten(1), teacher.flatten(1))
    assert (other - loss).abs() > 1e-2


def test_zero_features_cost_what_guessing_costs():
    value = multi_part_contrastive_loss(torch.zeros(2, 16), torch.zeros(2, 16))
    # Two parts with one positive group of eight, six parts with two.
    assert value.item() == pytest.approx(2 * math.log(8) + 6 * math.log(4), rel=1e-5)


@pytest.mark.parametrize("normalized", [True, False])
def test_the_teacher_gets_no_gradient(normalized):
    torch.manual_seed(0)
    student = torch.randn(2, 16, requires_grad=True)
    teacher = torch.randn(2, 16, requires_grad=True)
    multi_part_contrastive_loss(student, teacher, normalized=normalized).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


@pytest.mark.parametrize(("normalized", "temperature"), [(True, 0.1), (False, 1.0)])
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_extreme_features_stay_finite(assert_finite, scale, normalized, temperature):
    torch.manual_seed(0)
    teacher = scale * torch.randn(2, 64)
    assert_finite(
        lambda s: multi_part_contrastive_loss(s, teacher, POSITIVES, temperature, normalized),
        scale * torch.randn(2, 64),
    )


@pytest.mark.parametrize(("normalized", "temperature"), [(True, 0.1), (False, 1.0)])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_equal_groups_cost_what_guessing_costs(assert_finite, scale, normalized, temperature):
    torch.manual_seed(0)
    feature = scale * torch.randn(2, 1, 8).expand(2, 8, 8).flatten(1)
    options = (POSITIVES, temperature, normalized)
    value = multi_part_contrastive_loss(feature, feature, *options)
    # Float32 has steps of 64 at the raw dot products of 1e4.
    slack = 1e-4 if normalized or scale == 1 else 1e-6 * scale**2 * 8
    assert value.item() == pytest.approx(2 * math.log(8) + 6 * math.log(4), abs=slack)
    assert_finite(lambda s: multi_part_contrastive_loss(s, feature, *options), feature)


def test_is_computed_in_float32(assert_float32_under_autocast):
    torch.manual_seed(0)
    assert_float32_under_autocast(
        multi_part_contrastive_loss, torch.randn(4, 64), torch.randn(4, 64)
    )


@pytest.mark.parametrize(
    ("student", "teacher"), [((2, 16), (2, 24)), ((2, 16), (3, 16)), ((2, 12), (2, 12))]
)
def test_features_that_cannot_be_compared_are_an_error(student, teacher):
    with pytest.raises(ValueError, match="a multiple of 8"):
        multi_part_contrastive_loss(torch.ones(student), torch.ones(teacher))
