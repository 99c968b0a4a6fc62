"""The matching of parts beside loops over pairs, parts and all ways to match them."""

import itertools

import pytest
import torch

from pgfl.losses.part_matching import correspondence, likeness, part_matching_losses

LABELS = torch.tensor([0, 1, 0, 2, 1, 0])
PAIRS = [(0, 2), (0, 5), (1, 4), (2, 5)]


@pytest.fixture
def parts():
    """Six images of three people, four parts each; one part of one image is found nowhere."""
    torch.manual_seed(0)
    found = torch.randn(3, 4, 7)[LABELS] + 0.7 * torch.randn(6, 4, 7)
    found[5, 1] = 0
    return found


@pytest.fixture
def visibility():
    return torch.rand(6, 4, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.1


def cosine(a, b):
    lengths = a.norm() * b.norm()
    return (a @ b) / lengths if lengths > 0 else (a @ b) * 0


def naive_pair(parts, i, j):
    """The likeness of each part, and the structure's, of one pair."""
    count = parts.shape[1]
    alike = [cosine(parts[i, a], parts[j, a]) for a in range(count)]
    structure = [
        [cosine(parts[i, a] - parts[i, b], parts[j, a] - parts[j, b]) for b in range(count)]
        for a in range(count)
    ]
    return torch.stack(alike), torch.stack([torch.stack(row) for row in structure])


def naive_best(affinity, least):
    """The first of the best ways to match, as the authors try them."""
    best, best_value = torch.zeros(len(least), dtype=affinity.dtype), 0.0
    for bits in itertools.product((0.0, 1.0), repeat=len(least)):
        x = torch.tensor(bits, dtype=affinity.dtype)
        value = (x @ affinity @ x - x @ least).item()
        if value > best_value:
            best, best_value = x, value
    return best


def naive_losses(parts, visibility, rate=0.9):
    count = parts.shape[1]
    pairs = [naive_pair(parts, i, j) for i, j in PAIRS]
    least = rate * sum(alike for alike, _ in pairs).detach() / len(PAIRS)
    usual = sum(structure for _, structure in pairs).detach() / len(PAIRS)
    matching, verification = 0.0, 0.0
    for (i, j), (alike, structure) in zip(PAIRS, pairs, strict=True):
        affinity = torch.diag(alike) + structure - usual
        x = naive_best(affinity.detach(), least)
        confusion = 0.0
        for a in range(count):
            others = [b for b in range(count) if b != a]
            both = [cosine(parts[n, a], parts[n, b]) for n in (i, j) for b in others]
            confusion = confusion + x[a] * sum(both) / len(both)
            seen = visibility[i, a] * visibility[j, a]
            verification = (
                verification - (x[a] * seen.log() + (1 - x[a]) * (1 - seen).log()) / count
            )
        matching = matching + confusion - x @ affinity @ x
    return matching / len(PAIRS), verification / len(PAIRS)


def test_the_matching_loss_is_the_papers(assert_agrees, parts, visibility):
    assert_agrees(
        lambda given: part_matching_losses(given, visibility, LABELS)[0],
        lambda given: naive_losses(given, visibility.double())[0],
        parts,
    )


def test_the_verification_loss_is_the_papers_and_teaches_the_visibility(
    assert_agrees, parts, visibility
):
    assert_agrees(
        lambda given: part_matching_losses(parts, given, LABELS)[1],
        lambda given: naive_losses(parts.double(), given)[1],
        visibility,
    )
    given = parts.clone().requires_grad_()
    assert not part_matching_losses(given, visibility, LABELS)[1].requires_grad


def test_the_likeness_of_all_pairs(parts):
    alike, structure = likeness(parts.double())
    assert alike.shape == (6, 6, 4) and structure.shape == (6, 6, 4, 4)
    for i, j in itertools.product(range(6), repeat=2):
        expected_alike, expected_structure = naive_pair(parts.double(), i, j)
        torch.testing.assert_close(alike[i, j], expected_alike)
        torch.testing.assert_close(structure[i, j], expected_structure)


def test_the_correspondence_is_the_best_of_all(parts):
    torch.manual_seed(2)
    affinity, least = torch.randn(50, 5, 5).double(), torch.rand(5).double()
    found = correspondence(affinity, least)
    assert found.tolist() == [naive_best(one, least).tolist() for one in affinity]
    assert 0 < found.mean() < 1
    assert torch.equal(correspondence(-torch.eye(3), torch.ones(3)), torch.zeros(3))


def test_parts_that_another_person_hides_do_not_correspond():
    torch.manual_seed(3)
    person, other = torch.randn(4, 32), torch.randn(4, 32)
    pictures = torch.stack([person, person, person, person])
    pictures = pictures + 0.05 * torch.randn(pictures.shape)
    pictures[3, 2:] = other[2:]
    labels = torch.zeros(4, dtype=torch.long)
    visible = torch.full((4, 4), 0.5, requires_grad=True)
    part_matching_losses(pictures, visible, labels)[1].backward()
    # Down is where the visibility of the hidden parts has to go, and up everywhere else.
    assert (visible.grad[3, 2:] > 0).all() and (visible.grad[:3, :2] < 0).all()


def test_parts_found_nowhere_give_finite_gradients(assert_finite, parts, visibility):
    assert_finite(
        lambda given: sum(part_matching_losses(given, visibility, LABELS)),
        torch.zeros_like(parts),
    )


def test_a_batch_without_a_pair_is_an_error(parts, visibility):
    with pytest.raises(ValueError, match="two images of one person"):
        part_matching_losses(parts, visibility, torch.arange(6))
