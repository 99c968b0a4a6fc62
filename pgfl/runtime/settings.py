"""What all settings models share: strict, frozen, and with errors that name the key."""

from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from pgfl.errors import UserError
from pgfl.runtime.messages import PATH, explain

FilePath = Annotated[str, Field(pattern=PATH)]
"""A file or folder; spaces, quotes and other letters than English ones are fine."""


class Settings(BaseModel):
    """A section of the configuration: unknown keys are errors, values never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _as_meant(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML's `yes` is no number, and a choice may come as text or as a truth value."""
        assert info.field_name is not None
        annotation = cls.model_fields[info.field_name].annotation
        if get_origin(annotation) is Literal:
            return _chosen(value, get_args(annotation))
        some = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(one, bool) for one in some) and _is_numeric(annotation):
            raise PydanticCustomError("not_a_number", "true and false are no numbers")
        return value

    @classmethod
    def parse(cls, values: Any, where: str = "") -> Self:
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
            raise UserError("\n".join(explain(cls, error, where))) from None


def _chosen(value: Any, choices: tuple[Any, ...]) -> Any:
    """The choice that a value stands for: `true` for "true", and "2" for 2; else the value."""
    if isinstance(value, bool):
        value = str(value).lower()
    same = (choice for choice in choices if isinstance(value, str) and str(choice) == value)
    return next(same, value)


def _is_numeric(annotation: Any) -> bool:
    """Whether a field takes numbers, alone or in a list."""
    if annotation in (int, float):
        return True
    inner = get_args(annotation)[:1]
    return get_origin(annotation) in (tuple, Annotated) and _is_numeric(inner[0])


def merged(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """`base` with `overlay` laid over it; dictionaries merge key by key, all else replaces."""
    result = dict(base)
    for key, value in overlay.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            value = merged(result[key], value)
        result[key] = value
    return result
