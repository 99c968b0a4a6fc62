"""Consistency loss (Eq. 4): the student's feature approaches its teacher's."""

import torch
from torch import Tensor
from torch.nn import functional


def consistency_loss(student: Tensor, teacher: Tensor, form: str = "normalized") -> Tensor:
    """Squared distance of student and teacher, the mean over the batch.

    As printed (`literal`) the square is summed over 2048 raw channels. With f_E = f_F + f_G it
    then equals the squared norm of f_F, dwarfs every other term and pushes f_G to grow.

    Args:
        student: f_G, (N, c).
        teacher: f_E, (N, c); gets no gradient.
        form: `normalized` compares L2-normalised features, `mean` averages the square over
            channels, `literal` sums it.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: an unknown form.
    """
    with torch.autocast(student.device.type, enabled=False):
        student, teacher = student.float(), teacher.detach().float()
        if form == "normalized":
            student = functional.normalize(student, dim=1)
            teacher = functional.normalize(teacher, dim=1)
        elif form not in ("mean", "literal"):
            raise ValueError(f"no form {form!r}; known: normalized, mean, literal")
        squares = (student - teacher).square()
        return (squares.mean(dim=1) if form == "mean" else squares.sum(dim=1)).mean()
