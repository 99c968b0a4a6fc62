"""The task: a batch in, the named terms of Eq. 10 out."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor, nn

from pgfl.losses.consistency import consistency_loss
from pgfl.losses.identity import identity_loss
from pgfl.losses.multi_part_contrastive import multi_part_contrastive_loss
from pgfl.losses.triplet import batch_hard_triplet_loss
from pgfl.recipe import LossSettings


@dataclass(frozen=True)
class Batch:
    """What the loader yields."""

    images: Tensor
    """uint8 (N, H, W, 3), RGB, augmented."""
    labels: Tensor
    """(N,): identities numbered from 0 in the order of their pids."""
    heatmaps: Tensor | None
    """(N, 8, h, w), moved with the images; None where no branch needs them."""

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The batch with every tensor changed."""
        heatmaps = None if self.heatmaps is None else change(self.heatmaps)
        return replace(
            self, images=change(self.images), labels=change(self.labels), heatmaps=heatmaps
        )

    def pin_memory(self) -> Self:
        """Called by the loader, so that copies to a GPU run beside the computing."""
        return self.mapped(Tensor.pin_memory)


def losses(
    model: nn.Module,
    batch: Batch,
    settings: LossSettings,
    gather: Callable[[Tensor], Tensor] = lambda rows: rows,
) -> dict[str, Tensor]:
    """Every term of Eq. 10 under its own name, already weighted: their sum is the loss.

    Args:
        model: a `PGFL`, or a wrapper of one for several processes.
        batch: one batch of the PK sampler, or a process's share of it.
        settings: which terms, and their weights.
        gather: turns the rows (n, ...) of this process into those of all.

    Returns:
        `id_{feature}` and `triplet_{feature}` for each feature of `reid_on`, then `cl` (Eq. 4)
        and `mcl` (Eq. 5) where their weights are not zero. With `part_distillation: consistency`
        (Table 7) `part_cl`, the loss of Eq. 4 with f_P as teacher, takes the place of `mcl`.
    """
    features, logits = model(batch.images, batch.heatmaps)
    features = {name: gather(rows) for name, rows in features.items()}
    logits = {name: gather(rows) for name, rows in logits.items()}
    labels = gather(batch.labels)
    terms = {}
    for name in settings.reid_on:
        weight = settings.global_weight if name == "global" else 1.0
        terms[f"id_{name}"] = weight * identity_loss(
            logits[name], labels, settings.label_smoothing
        )
        terms[f"triplet_{name}"] = weight * batch_hard_triplet_loss(
            features[name], labels, settings.triplet_margin
        )
    if settings.lambda_cl > 0:
        terms["cl"] = settings.lambda_cl * _consistency(
            features["global"], features["enhanced"], settings
        )
    if settings.lambda_mcl > 0 and settings.part_distillation == "consistency":
        terms["part_cl"] = settings.lambda_mcl * _consistency(
            features["global"], features["part"], settings
        )
    elif settings.lambda_mcl > 0:
        normalized = settings.contrastive == "normalized"
        terms["mcl"] = settings.lambda_mcl * multi_part_contrastive_loss(
            features["global"],
            features["part"],
            temperature=settings.contrastive_temperature if normalized else 1.0,
            normalized=normalized,
        )
    return terms


def _consistency(student: Tensor, teacher: Tensor, settings: LossSettings) -> Tensor:
    """Eq. 4's loss in the chosen form and scale, without its lambda."""
    scale = settings.consistency_scale if settings.consistency == "normalized" else 1.0
    return scale * consistency_loss(student, teacher, settings.consistency)
