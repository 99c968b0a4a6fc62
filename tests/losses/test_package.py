import pgfl.losses
from pgfl.losses import consistency, identity, multi_part_contrastive, triplet


def test_the_four_losses_can_be_had_from_the_package():
    assert pgfl.losses.consistency_loss is consistency.consistency_loss
    assert pgfl.losses.identity_loss is identity.identity_loss
    assert (
        pgfl.losses.multi_part_contrastive_loss
        is multi_part_contrastive.multi_part_contrastive_loss
    )
    assert pgfl.losses.batch_hard_triplet_loss is triplet.batch_hard_triplet_loss
