import pytest
from hypothesis import event
from hypothesis import strategies as st

from pgfl.errors import UserError


def outcome(function, *args, named):
    """What a function returns, or None where it refuses its input in clear lines.

    Every other exception is a failure of the test. Each line must say what it is about.
    """
    try:
        result = function(*args)
        event(f"{function.__name__}: taken")
        return result
    except UserError as error:
        event(f"{function.__name__}: refused")
        lines = str(error).split("\n")
        assert lines and all(any(str(name) in line for name in named) for line in lines), lines
        assert all(line.isprintable() and len(line) < 3000 for line in lines), lines
        return None


@pytest.fixture
def clear():
    """Calls a function that may refuse its input, but only in clear lines."""
    return outcome


@st.composite
def damaged_bytes(draw, whole):
    """Some bytes with a few of them flipped, cut out, doubled, or the end cut off."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(["flip", "set", "cut", "double", "end", "insert"]))
        if kind == "flip" and content:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set" and content:
            size = draw(st.integers(1, 8))
            content[at : at + size] = draw(st.sampled_from([b"\x00", b"\xff", b"\x7f"])) * size
        elif kind == "cut":
            del content[at : at + draw(st.integers(1, 40))]
        elif kind == "double":
            content[at:at] = content[at : at + draw(st.integers(1, 40))]
        elif kind == "insert":
            content[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            del content[at:]
    return bytes(content)


@pytest.fixture
def damaged():
    """A strategy: `damaged(whole)` draws damaged copies of some bytes."""
    return damaged_bytes
