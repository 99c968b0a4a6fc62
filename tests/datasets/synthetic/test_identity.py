import numpy as np
import pytest

from pgfl.datasets.synthetic.identity import PALETTE, TILE, Tile, sample_identity, texture_atlas


def test_identity_depends_on_seed_and_pid_only():
    assert sample_identity(3, 7) == sample_identity(3, 7)
    assert sample_identity(3, 7) != sample_identity(3, 8)
    assert sample_identity(3, 7) != sample_identity(4, 7)


def test_many_people_share_both_garment_colours_but_no_two_are_equal():
    people = [sample_identity(0, pid) for pid in range(200)]
    outfits = {(person.upper.colour, person.lower.colour) for person in people}
    assert len(set(people)) == 200
    assert len(outfits) < 80


def test_every_kind_of_appearance_occurs():
    people = [sample_identity(0, pid) for pid in range(300)]
    assert {person.hair for person in people} >= {"short", "long", "bun", "bald"}
    assert {person.bag for person in people} == {"none", "backpack", "shoulder bag", "handbag"}
    assert len({person.upper.pattern for person in people}) == 8
    assert len({person.upper.kind for person in people}) == 5
    assert {person.lower.kind for person in people} == {"trousers", "shorts", "skirt", "dress"}
    assert {person.upper.colour for person in people} == set(PALETTE.values())


def test_texture_atlas_is_read_only_and_differs_between_people():
    atlas = texture_atlas(sample_identity(0, 0))
    assert atlas.shape == (TILE, TILE * len(Tile), 3) and atlas.dtype == np.uint8
    assert not atlas.flags.writeable
    assert (atlas != texture_atlas(sample_identity(0, 1))).any()


def test_patterns_are_the_same_all_the_way_round_where_the_tile_closes():
    striped = next(
        person
        for person in (sample_identity(0, pid) for pid in range(200))
        if person.upper.pattern == "horizontal stripes" and person.upper.kind == "long sleeve"
    )
    sleeve = texture_atlas(striped)[:, Tile.SLEEVE * TILE : (Tile.SLEEVE + 1) * TILE]
    assert (sleeve[:, 0] == sleeve[:, -1]).all()


@pytest.mark.parametrize(("seed", "pid"), [(-1, 0), (0, -1)])
def test_negative_numbers_are_refused(seed, pid):
    with pytest.raises(ValueError, match="must be >= 0"):
        sample_identity(seed, pid)
