"""Errors in settings in plain words: the key's dotted path, the value, and what is allowed."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
LOWER_NAME = "^[a-z][a-z0-9_]{0,99}$"
PATH = r"^[^{}\x00-\x1f\x7f\u0085\u2028\u2029]*$"
"""Snakemake reads braces as wildcards and takes no line breaks; all else it can quote."""

PATTERNS = {
    NAME: "letters, digits, '_', '.' and '-', the first a letter or digit, at most 100",
    LOWER_NAME: "small letters, digits and '_', the first a letter, at most 100",
    PATH: "a path without braces and control characters",
}
"""Each pattern in words."""

LONGEST_SHOWN = 60
"""Characters of a wrong value that a message shows."""

MOST_LINES = 10
"""Findings of one kind that a message lists."""


def few(lines: Sequence[str], what: str = "") -> list[str]:
    """The first findings of one kind, and how many more there are (`and 5 more` and `what`)."""
    hidden = len(lines) - MOST_LINES
    more = f"and {hidden} more {what}".rstrip()
    return [*lines[:MOST_LINES], more] if hidden > 0 else list(lines)


def explain(model: type[BaseModel], error: ValidationError, where: str = "") -> list[str]:
    """One line for each wrong key: its dotted path, the value, what is allowed.

    Args:
        model: what was to be validated.
        error: what pydantic says.
        where: the path of the model itself.
    """
    problems = error.errors()
    wrong = {problem["loc"] for problem in problems}
    # A list whose only item is wrong counts as too short as well, which explains nothing.
    inside = {place[:-1] for place in wrong}
    return [
        _line(model, problem, where)
        for problem in problems
        if problem["type"] != "too_short" or problem["loc"] not in inside
    ]


def _line(model: type[BaseModel], problem: Any, where: str) -> str:
    """One problem as one line."""
    location: tuple[Any, ...] = problem["loc"]
    given = shown(problem["input"])
    if location and location[-1] == "[key]":
        *section, key, _ = location
        keys, _ = _at(model, section)
        choices = get_args(keys)[0] if get_args(keys) else str
        if get_origin(choices) is Literal:
            return f"{_named(where, location[:-1])}: {_no_such(key, get_args(choices))}"
        return f"{_named(where, section)}: {given} cannot be a name here: {_words(choices, ())}"
    named = _named(where, location)
    if problem["type"] in ("extra_forbidden", "invalid_key"):
        section_model, _ = _at(model, location[:-1])
        return f"{named}: {_no_such(location[-1], section_model.model_fields)}"
    if problem["type"] == "value_error":
        # What concerns several keys of a section names one of them first.
        joint = "." if isinstance(problem["input"], dict) else ": "
        return f"{named}{joint}{problem['ctx']['error']}"
    if problem["type"] == "recursion_loop":
        return f"{named}: refers to itself"
    allowed = _words(*_at(model, location))
    if problem["type"] == "missing":
        return f"{named}: is missing; it must be {allowed}"
    return f"{named}: must be {allowed} (got {given}){_meant(problem['input'], model, location)}"


def _named(where: str, location: Iterable[Any]) -> str:
    path = ".".join([*filter(None, [where]), *(shown_key(part) for part in location)])
    return f"setting {path}" if path else "the settings"


def shown_key(key: Any) -> str:
    """A key of a mapping as messages name it; always one line, of a sensible length."""
    text = str(key)
    return text if text.isprintable() and len(text) <= LONGEST_SHOWN else shown(text)


def shown(value: Any) -> str:
    """A wrong value as messages quote it; always one line, of a sensible length."""
    if value is None:
        return "nothing"
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        text = "a huge number"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _meant(given: Any, model: type[BaseModel], location: tuple[Any, ...]) -> str:
    annotation, _ = _at(model, location)
    if get_origin(annotation) is not Literal:
        return ""
    close = difflib.get_close_matches(str(given), map(str, get_args(annotation)), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _no_such(key: Any, known: Iterable[str]) -> str:
    return f"no such setting; {did_you_mean(key, known)}"


def short_number(value: float) -> str:
    """A number as it is written in names, all of its digits: 0.25, 1, 1e-05."""
    return repr(float(value)).removesuffix(".0")


def did_you_mean(given: Any, known: Iterable[str]) -> str:
    """All that is known, and before it the one that was probably meant."""
    names = sorted(known)
    close = difflib.get_close_matches(str(given), names, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"{meant}known: {', '.join(names)}"


def _at(model: Any, location: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """The type, and what restricts it, of the value at a location below a model."""
    annotation, limits = model, ()
    for part in location:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields[part]
            annotation, limits = field.annotation, field.metadata
        else:
            inner = get_args(annotation)
            annotation, limits = inner[1] if get_origin(annotation) is dict else inner[0], ()
    return annotation, limits


def _words(annotation: Any, limits: Sequence[Any]) -> str:
    """A type and its limits in words that need no knowledge of Python."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        fields = [one for one in inner[1:] if isinstance(one, FieldInfo)]
        return _words(inner[0], [*limits, *(limit for one in fields for limit in one.metadata)])
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    bounds = _bounds(limits)
    if origin is tuple:
        return f"a list{f' of {bounds}' if bounds else ''}, each {_words(inner[0], ())}"
    if annotation in PLAIN:
        patterns = [limit.pattern for limit in limits if getattr(limit, "pattern", None)]
        if patterns:
            return PATTERNS[patterns[0]]
        return f"{PLAIN[annotation]}{f', {bounds}' if bounds else ''}"
    return "a section: lines of 'key: value' below it"


PLAIN = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text (numbers and dates in quotes)",
}
BOUNDS = {
    "ge": "at least",
    "gt": "more than",
    "le": "at most",
    "lt": "less than",
    "multiple_of": "a multiple of",
    "min_length": "at least",
}


def _bounds(limits: Sequence[Any]) -> str:
    found = [
        f"{words} {getattr(limit, name)}"
        for limit in limits
        for name, words in BOUNDS.items()
        if getattr(limit, name, None) is not None
    ]
    return " and ".join(found)
