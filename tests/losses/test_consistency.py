import pytest
import torch

from pgfl.losses.consistency import consistency_loss

FORMS = ("normalized", "mean", "literal")


def naive(student, teacher, form):
    """Eq. 4, image by image and channel by channel."""
    total = 0.0
    count, channels = student.shape
    for row in range(count):
        s, t = student[row], teacher[row]
        if form == "normalized":
            s, t = s / torch.sqrt(sum(s**2)), t / torch.sqrt(sum(t**2))
        square = sum((s[c] - t[c]) ** 2 for c in range(channels))
        total = total + (square / channels if form == "mean" else square)
    return total / count


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(1, 2), (3, 8), (5, 33)])
def test_is_the_squared_distance(assert_agrees, shape, form):
    torch.manual_seed(shape[1])
    teacher = torch.randn(shape)
    assert_agrees(
        lambda student: consistency_loss(student, teacher, form),
        lambda student: naive(student, teacher.double(), form),
        torch.randn(shape),
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_teacher_gets_no_gradient(form):
    student, teacher = torch.randn(2, 3, 8).requires_grad_().unbind()
    student, teacher = student.detach().requires_grad_(), teacher.detach().requires_grad_()
    consistency_loss(student, teacher, form).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


def test_a_teacher_made_of_the_student_teaches_as_a_constant():
    base, extra = torch.randn(2, 4, 6).unbind()
    tied, free = base.clone().requires_grad_(), base.clone().requires_grad_()
    consistency_loss(tied, tied + extra).backward()
    consistency_loss(free, base + extra).backward()
    assert torch.equal(tied.grad, free.grad)


def test_normalized_ignores_the_length_of_features():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 8).unbind()
    torch.testing.assert_close(
        consistency_loss(7 * student, 0.1 * teacher), consistency_loss(student, teacher)
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_extreme_features_stay_finite(assert_finite, scale, form):
    torch.manual_seed(0)
    teacher = scale * torch.randn(3, 64)
    assert_finite(lambda s: consistency_loss(s, teacher, form), scale * torch.randn(3, 64))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_student_that_equals_its_teacher_costs_nothing(assert_finite, scale, form):
    torch.manual_seed(0)
    teacher = scale * torch.randn(3, 64)
    assert consistency_loss(teacher, teacher, form).item() == 0
    assert_finite(lambda student: consistency_loss(student, teacher, form), teacher)


@pytest.mark.parametrize("form", FORMS)
def test_is_computed_in_float32(assert_float32_under_autocast, form):
    torch.manual_seed(0)
    assert_float32_under_autocast(
        lambda s, t: consistency_loss(s, t, form), torch.randn(3, 64), torch.randn(3, 64)
    )


def test_an_unknown_form_is_an_error():
    with pytest.raises(ValueError, match="no form 'cubic'"):
        consistency_loss(torch.ones(2, 2), torch.ones(2, 2), "cubic")
