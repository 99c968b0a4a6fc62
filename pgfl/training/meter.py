"""How the steps of an epoch went: sums kept on the device, so that a step never waits for them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pgfl.errors import UserError

ADVICE = (
    "training stops, the checkpoint of the last whole epoch is kept. Lower "
    "training.learning_rate, or set training.precision: fp32"
)

JUMP = 10.0
"""Times the mean gradient of the epoch before: a step with more than that is worth a warning."""


class Meter:
    """The terms and the gradient of one epoch so far. Only reading them waits for the device."""

    def __init__(self):
        self.steps = 0
        self._names: list[str] = []
        self._sums = self._most = self._last = self._good = torch.empty(0)

    def add(self, terms: dict[str, Tensor]) -> None:
        """Take the terms of a step: scalars, the same names in every step."""
        values = torch.stack(list(terms.values())).detach().double()
        if self.steps == 0:
            self._names, self._sums, self._most, self._last = list(terms), values, values, values
            self._good = values.isfinite().all().double()
        else:
            # The first step that is not finite stays the last one looked at.
            self._last = torch.where(self._last.isfinite().all(), values, self._last)
            self._good = self._good + self._last.isfinite().all()
            self._sums = self._sums + values
            self._most = self._most.maximum(values)
        self.steps += 1

    def means(self, epoch: int) -> dict[str, float]:
        """The mean of each term over the steps so far.

        Args:
            epoch: from 0, named in the message.

        Raises:
            UserError: a term was not finite; names the first such step, and the terms in it.
        """
        read = torch.cat([self._sums, self._last, self._good[None]]).tolist()
        count = len(self._names)
        check_finite(dict(zip(self._names, read[count:-1], strict=True)), epoch, int(read[-1]))
        return {
            name: value / self.steps for name, value in zip(self._names, read[:count], strict=True)
        }

    def most(self, name: str) -> float:
        """The largest value of a term in the steps so far."""
        return self._most[self._names.index(name)].item()


def get_total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean length of all tensors together, as torch has it itself from 2.6 on."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


def check_finite(values: dict[str, float], epoch: int, step: int) -> None:
    """Raise UserError naming the step (from 0) and the values that are not finite."""
    broken = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
    if broken:
        raise UserError(f"epoch {epoch + 1}, step {step + 1}: {', '.join(broken)}; {ADVICE}")


def check_weights(state: dict[str, Tensor], epoch: int) -> None:
    """Raise UserError if a tensor of the state is not finite: such a state must not be kept.

    The last step of an epoch can spoil the weights after its own loss was still finite.
    """
    broken = [name for name, value in state.items() if not value.isfinite().all()]
    if broken:
        raise UserError(
            f"epoch {epoch + 1}: {broken[0]} and {len(broken) - 1} more tensors of the network "
            f"are not finite after its last step; {ADVICE}"
        )


def warn_of_jump(history: list[dict[str, float]], longest: float) -> None:
    """Say so if the gradient of a step was far longer than usual in the epoch before.

    A single batch with an enormous gradient leaves every loss finite, and can cost a run its
    accuracy all the same. In the first epoch, before which there is none, nothing is said.

    Args:
        history: the epochs before, each with its mean `gradient`.
        longest: the longest gradient of the epoch just done.
    """
    if history and 0 < JUMP * (usual := history[-1]["gradient"]) < longest:
        print(
            f"warning: epoch {len(history) + 1}: the gradient was {longest:.3g} long in one step, "
            f"{usual:.3g} on average in the epoch before: that batch may have spoilt the weights. "
            "If the losses in history.csv do not come back, train with another seed or a lower "
            "training.learning_rate"
        )
