import subprocess
import sys

import pytest

import pgfl.losses
from pgfl.errors import UserError
from pgfl.losses import consistency, identity, multi_part_contrastive, triplet


def test_the_losses_can_be_had_from_the_package():
    assert pgfl.losses.consistency_loss is consistency.consistency_loss
    assert pgfl.losses.identity_loss is identity.identity_loss
    assert (
        pgfl.losses.multi_part_contrastive_loss
        is multi_part_contrastive.multi_part_contrastive_loss
    )
    assert pgfl.losses.batch_hard_triplet_loss is triplet.batch_hard_triplet_loss


def test_every_name_can_be_imported_and_no_other():
    assert all(callable(getattr(pgfl.losses, name)) for name in pgfl.losses.__all__[:-2])
    with pytest.raises(AttributeError, match="has no attribute 'centre_loss'"):
        pgfl.losses.centre_loss  # noqa: B018


def test_names_are_had_without_torch():
    code = "import sys, pgfl.losses; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_an_extra_loss_that_is_none_is_said():
    assert pgfl.losses.extra_module("center") == "pgfl.losses.center"
    with pytest.raises(UserError, match="no loss 'centre'; did you mean 'center'"):
        pgfl.losses.extra_module("centre")
