"""PGFL-KD: what the loop and the evaluation ask of the method."""

from torch import Tensor

from pgfl.losses.consistency import consistency_loss
from pgfl.losses.multi_part_contrastive import multi_part_contrastive_loss
from pgfl.methods.bot import Student
from pgfl.methods.pgfl_kd.matching import FEATURES, Matcher
from pgfl.methods.pgfl_kd.network import Network
from pgfl.methods.pgfl_kd.settings import Settings
from pgfl.nn.batch import Batch, Outputs
from pgfl.nn.reid_losses import reid_terms

__all__ = ["FEATURES", "Matcher", "Network", "Settings", "losses", "student"]


def losses(outputs: Outputs, batch: Batch, settings: Settings) -> dict[str, Tensor]:
    """Every term of Eq. 10 under its own name, already weighted: their sum is the loss.

    Returns:
        `id_{feature}` and `triplet_{feature}` for each feature of `reid_on`, then `cl` (Eq. 4)
        and `mcl` (Eq. 5) where their weights are not zero. With `part_distillation: consistency`
        (Table 7) `part_cl`, the loss of Eq. 4 with f_P as teacher, takes the place of `mcl`.
    """
    features, logits = outputs
    terms = {}
    for name in settings.reid_on:
        terms |= reid_terms(
            name,
            features[name],
            logits[name],
            batch.labels,
            margin=settings.triplet_margin,
            smoothing=settings.label_smoothing,
            weight=settings.global_weight if name == "global" else 1.0,
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


def _consistency(student: Tensor, teacher: Tensor, settings: Settings) -> Tensor:
    """Eq. 4's loss in the chosen form and scale, without its lambda."""
    scale = settings.consistency_scale if settings.consistency == "normalized" else 1.0
    return scale * consistency_loss(student, teacher, settings.consistency)


def student(network: Network) -> Student:
    """What is left at test time: BoT's network, trained with the branches' help."""
    return network.student
