"""What rules put into commands and wildcard constraints.

The Snakefile imports this, so it stays light.
"""

import json
import re
import shlex
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel


def as_json(value: Any) -> str:
    """Settings as one canonical string: a rule's parameter and its command's argument.

    >>> as_json({"b": 1, "a": [2.0]})
    '{"a": [2.0], "b": 1}'
    """
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True)


def option(name: str, value: object) -> str:
    """`--name VALUE`, quoted for the shell; nothing where the value is empty.

    >>> option("url", "a b"), option("url", None)
    ("--url 'a b'", '')
    """
    return f"--{name} {shlex.quote(str(value))}" if value else ""


def json_option(name: str, value: Any) -> str:
    """The same with a list or mapping, as JSON.

    >>> json_option("left-out", {"a": ["b.zip"]}), json_option("left-out", {})
    ('--left-out \\'{"a": ["b.zip"]}\\'', '')
    """
    return option(name, as_json(value)) if value else ""


def any_of(names: Iterable[str]) -> str:
    """A regular expression that matches exactly these names, or nothing at all.

    >>> any_of({"b.c", "a"}), any_of([])
    ('a|b\\\\.c', '(?!)')
    """
    return "|".join(re.escape(name) for name in sorted(names)) or r"(?!)"
