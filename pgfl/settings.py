"""What all settings models share: strict, frozen, and with errors that name the key."""

import difflib
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from pgfl.errors import UserError


class Settings(BaseModel):
    """A section of the configuration: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @classmethod
    def parse(cls, values: dict[str, Any], where: str = "") -> Self:
        """Validate plain values.

        Args:
            values: what a YAML or JSON file holds for this section.
            where: the section's own path, put before each key in messages.

        Raises:
            UserError: one line for each wrong key, with its path and what is allowed.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            lines = [_explain(cls, problem, where) for problem in error.errors()]
            raise UserError("\n".join(lines)) from None


def _explain(model: type[BaseModel], problem: Any, where: str) -> str:
    location = [str(part) for part in problem["loc"]]
    path = ".".join([*filter(None, [where]), *location])
    if problem["type"] == "string_pattern_mismatch" and location[-1] == "[key]":
        path = ".".join([*filter(None, [where]), *location[:-2]])
        return f"setting {path}: {problem['input']!r} cannot be a name here: {problem['msg']}"
    if problem["type"] != "extra_forbidden":
        shown = "" if problem["type"] == "missing" else f" (got {problem['input']!r})"
        return f"setting {path}: {problem['msg']}{shown}"
    known = _keys_beside(model, location)
    close = difflib.get_close_matches(location[-1], known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
    return f"setting {path}: no such setting; {hint}"


def _keys_beside(model: type[BaseModel], location: list[str]) -> list[str]:
    """The keys that are allowed where the unknown key at `location` stands."""
    for part in location[:-1]:
        field = model.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type):
            return []
        if not issubclass(field.annotation, BaseModel):
            return []
        model = field.annotation
    return sorted(model.model_fields)


def merged(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """`base` with `overlay` laid over it; dictionaries merge key by key, all else replaces."""
    result = dict(base)
    for key, value in overlay.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            value = merged(result[key], value)
        result[key] = value
    return result
