import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfl.datasets.own_checks import doubts, repeated_photographs, repeated_rows


def table(*rows):
    """Rows of split, pid, camid and content; images are called by their numbers."""
    frame = pd.DataFrame(rows, columns=["split", "pid", "camid", "sha256"])
    return frame.assign(image=[f"{number}.jpg" for number in range(len(frame))])


def test_one_photograph_of_two_people_is_named_with_both():
    found = repeated_photographs(
        table(("train", 1, 1, "x"), ("train", 2, 1, "x"), ("train", 3, 1, "y"))
    )
    assert found == [
        "0.jpg (train) and 1.jpg (train) are the same photograph, but of two people ('1' and '2')"
    ]


def test_the_users_own_words_for_people_are_shown():
    rows = table(("train", 1, 1, "x"), ("query", 2, 1, "x")).assign(label=["anna", "bert"])
    assert repeated_photographs(rows)[0].endswith("but of two people ('anna' and 'bert')")


def test_one_photograph_in_both_halves_is_named():
    (line,) = repeated_photographs(table(("train", 1, 1, "x"), ("gallery", 1, 2, "x")))
    assert line == (
        "0.jpg (train) and 1.jpg (gallery) are the same photograph: take it out of train or out "
        "of test"
    )


def test_a_query_that_finds_itself_is_named_and_one_that_cannot_is_not():
    (line,) = repeated_photographs(table(("query", 1, 1, "x"), ("gallery", 1, 2, "x")))
    assert line.startswith("0.jpg (query) and 1.jpg (gallery) are the same photograph, so that")
    assert repeated_photographs(table(("query", 1, 1, "x"), ("gallery", 1, 1, "x"))) == []


def test_of_many_photographs_ten_are_named():
    rows = [("train", pid, 1, content) for pid in (1, 2) for content in range(14)]
    found = repeated_photographs(table(*rows))
    assert len(found) == 11 and found[-1] == "and 4 more"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["train", "query", "gallery"]),
            st.integers(1, 2),
            st.integers(0, 1),
            st.sampled_from("xy"),
        ),
        min_size=1,
        max_size=7,
    )
)
def test_refused_is_exactly_what_holds_a_forbidden_pair(rows):
    def forbidden(one, other):
        (split, pid, camid, content), (split2, pid2, camid2, content2) = one, other
        train_and_test = (split == "train") != (split2 == "train")
        found = {split, split2} == {"query", "gallery"} and camid != camid2
        return content == content2 and (pid != pid2 or train_and_test or found)

    wrong = {
        one[3] for number, one in enumerate(rows) for two in rows[:number] if forbidden(one, two)
    }
    assert len(repeated_photographs(table(*rows))) == len(wrong)


def test_rows_that_stand_twice_are_named_with_both_numbers():
    rows = pd.DataFrame(
        [
            ("a", "train", "1", "c1"),
            ("a", "train", "1", "c1"),
            ("b", "train", "1", "c1"),
            ("b", "train", "2", "c1"),
            ("c", "query", "3", "c1"),
            ("c", "query", "3", "c2"),
            ("c", "gallery", "3", "c1"),
        ],
        columns=["image", "split", "pid", "camid"],
        index=range(2, 9),
    )
    assert repeated_rows(rows) == [
        "row 3: image 'a': listed twice in train (row 2 lists it already, with the same values)",
        "row 5: image 'b': listed twice in train (row 4 lists it already, with pid '1', now '2')",
        "row 7: image 'c': listed twice in query (row 6 lists it already, with camid 'c1', now "
        "'c2')",
    ]


def doubtful(pids, split="query", contents=None):
    rows = table(*((split, 1, 1, n) for n in contents or range(len(pids))))
    return doubts(rows, pd.DataFrame({"pid": pids}))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("anna", "Anna"),
        ("anna m", "anna  m"),
        ("J\u00f6rg", "Jo\u0308rg"),
        ("7", "007"),
        ("p7", "p007"),
        ("12", "12.0"),
        ("anna", "an\u200bna".replace("\u200b", "", 1) + "\u200b"),
        ("\uff17", "7"),
    ],
)
def test_names_that_people_hardly_tell_apart_are_doubted(one, other):
    (line,) = doubtful([one, other, other, "bert"])
    assert "count as 2 people; write them alike if they are one" in line
    assert f"{one!r} (rows: 1)" in line and f"{other!r} (rows: 2)" in line


def test_other_names_are_not_doubted():
    assert doubtful(["anna", "hanna", "7", "70", "c1", "c11", "1e5", "1.5"]) == []


def test_numbers_that_a_spreadsheet_has_shortened_are_doubted():
    (line,) = doubtful(["1E+05", "1.23E+11", "77"])
    assert line.startswith("pid: 2 values ('1.23E+11', '1E+05') may be numbers that a spreadsheet")


def test_people_with_one_training_image_are_doubted():
    (line,) = doubtful(["anna", "bert", "bert", "cleo"], split="train")
    assert line.startswith("train has only one image of 2 people ('anna', 'cleo'): the triplet")


def test_a_photograph_twice_in_a_split_is_doubted():
    (line,) = doubtful(["anna", "anna", "anna"], split="train", contents=[1, 2, 1])
    assert line == "0.jpg and 2.jpg are the same photograph, which counts twice"
