from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfl.errors import UserError
from pgfl.training.sampler import pk_batches


@st.composite
def cases(draw):
    """The labels of a data set, P and K."""
    counts = draw(st.lists(st.integers(1, 9), min_size=2, max_size=7))
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    labels = draw(st.permutations(labels))
    return labels, draw(st.integers(2, len(counts))), draw(st.integers(2, 5))


@given(cases(), st.integers(0, 2**32))
def test_batches_are_p_identities_with_k_images_each(case, seed):
    labels, identities, images = case
    for batch in pk_batches(labels, identities, images, np.random.default_rng(seed)):
        assert len(batch) == identities * images
        groups = [batch[i : i + images] for i in range(0, len(batch), images)]
        owners = [{labels[row] for row in group} for group in groups]
        assert all(len(owner) == 1 for owner in owners)
        assert len(set.union(*owners)) == identities


@given(cases(), st.integers(0, 2**32))
def test_every_whole_group_of_every_identity_is_used(case, seed):
    labels, identities, images = case
    batches = pk_batches(labels, identities, images, np.random.default_rng(seed))
    seen = Counter(labels[row] for batch in batches for row in batch)
    for label, count in Counter(labels).items():
        assert seen[label] >= max(count // images, 1) * images
    rows = {row for batch in batches for row in batch}
    for label, count in Counter(labels).items():
        own = sum(labels[row] == label for row in rows)
        assert own >= min(count, max(count // images, 1) * images)


@given(cases(), st.integers(0, 2**32))
def test_an_image_comes_twice_in_a_batch_only_where_there_are_too_few(case, seed):
    labels, identities, images = case
    counts = Counter(labels)
    for batch in pk_batches(labels, identities, images, np.random.default_rng(seed)):
        for label in {labels[row] for row in batch}:
            rows = {row for row in batch if labels[row] == label}
            assert len(rows) == min(images, counts[label])


@given(cases(), st.integers(0, 2**32))
def test_the_generator_decides_everything(case, seed):
    labels, identities, images = case
    first, second = (
        pk_batches(labels, identities, images, np.random.default_rng(seed)) for _ in range(2)
    )
    assert first == second


def test_other_seeds_give_other_batches():
    labels = list(range(8)) * 8
    found = [pk_batches(labels, 4, 4, np.random.default_rng(seed)) for seed in range(5)]
    assert all(a != b for i, a in enumerate(found) for b in found[:i])


def test_even_data_are_covered_in_at_most_one_batch_more():
    """Four batches hold four identities of two groups, unless both groups of one are left over."""
    labels = list(range(4)) * 6
    for seed in range(100):
        batches = pk_batches(labels, 2, 3, np.random.default_rng(seed))
        assert len(batches) in (4, 5)
        assert {row for batch in batches for row in batch} == set(range(24))


def test_too_few_identities_are_an_error():
    with pytest.raises(UserError, match=r"training.identities: 4 identities .* only 3"):
        pk_batches([0, 1, 2, 2, 1, 0], 4, 2, np.random.default_rng(0))
