"""What the settings of all methods have in common, and how those of one method are found."""

import ast
import functools
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pgfl.errors import UserError
from pgfl.methods import METHODS
from pgfl.runtime.messages import did_you_mean
from pgfl.runtime.settings import Settings

if TYPE_CHECKING:
    from pgfl.nn.settings import ModelSettings


class MethodSettings(Settings):
    """The settings of one method; their defaults are its paper's."""

    of_method: ClassVar[str] = ""
    """The method's name, where `settings_class` has made the class."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Such a class lies in no module that another process could import.
        if not self.of_method:
            return super().__reduce__()
        return method_settings, (self.of_method, self.model_dump(mode="json"))

    @property
    def needs_heatmaps(self) -> bool:
        """Whether training needs the pose cache of the training images."""
        return False

    @property
    def needs_heatmaps_at_test(self) -> bool:
        """Whether matching needs the pose cache of query and gallery."""
        return False

    @property
    def has_student(self) -> bool:
        """Whether a pose-free network of one vector per image is left to match with.

        Without one the whole network is matched with, and nothing can be exported.
        """
        return not self.needs_heatmaps_at_test

    @property
    def student_method(self) -> str:
        """The method whose `Student` is left at test time; empty: this one."""
        return ""

    @property
    def warning(self) -> str:
        """One line for somebody who starts a training with these settings, or nothing."""
        return ""

    @property
    def idle_code(self) -> frozenset[str]:
        """Modules that the method's own module imports and these settings never run.

        An edit of them changes nothing, so their variants are not trained again.
        """
        return frozenset()

    def misfit(self, model: "ModelSettings") -> str:
        """What of these settings the backbone cannot serve (`setting: why; what to do`)."""
        return ""

    def as_trained(self) -> Self:
        """The settings, those that training never reads set back to their defaults.

        Settings that differ in those only train the same network, and this makes them equal.
        """
        return self


def module_name(method: str) -> str:
    """The module of a method.

    Raises:
        UserError: there is no such method.
    """
    if method not in METHODS:
        raise UserError(f"no method {method!r}; {did_you_mean(method, METHODS)}")
    return METHODS[method]


@functools.cache
def settings_class(method: str) -> type[MethodSettings]:
    """The class `Settings` of a method.

    Planning asks for it, and must not wait for torch. So of the method's file only those
    statements are run that the class needs; the network's are left alone.

    Raises:
        UserError: there is no such method.
    """
    name = module_name(method)
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    module = ModuleType(f"{name}:settings")
    module.__file__ = spec.origin
    # pydantic looks for the docstrings of attributes in the source of the class's module.
    sys.modules[module.__name__] = module
    code = compile(ast.Module(needed_by(tree.body, "Settings"), []), spec.origin, "exec")
    exec(code, module.__dict__)
    if module.Settings.__module__ == module.__name__:
        module.Settings.of_method = method
    return module.Settings


def needed_by(statements: list[ast.stmt], name: str) -> list[ast.stmt]:
    """The statements of a module that a name of it needs, in their order, its own among them."""
    bound = {one: statement for statement in statements for one in _bound(statement)}
    needed: set[ast.stmt] = set()
    waiting = [name]
    while waiting:
        statement = bound.get(waiting.pop())
        if statement is not None and statement not in needed:
            needed.add(statement)
            waiting += [node.id for node in ast.walk(statement) if isinstance(node, ast.Name)]
    return [statement for statement in statements if statement in needed]


def _bound(statement: ast.stmt) -> list[str]:
    """The names that a statement of a module gives a meaning to."""
    match statement:
        case ast.Import(names) | ast.ImportFrom(names=names):
            return [(alias.asname or alias.name).partition(".")[0] for alias in names]
        case ast.ClassDef(name) | ast.FunctionDef(name):
            return [name]
        case ast.Assign(targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(ast.Name(name)):
            return [name]
    return []


def method_settings(method: str, values: Any, where: str = "") -> MethodSettings:
    """The settings of a method from plain values.

    Args:
        method: a name of `METHODS`.
        values: by name; what is missing takes its default.
        where: their path in the configuration, for messages.

    Raises:
        UserError: no such method, or one line for each wrong setting.
    """
    return settings_class(method).parse(values, where)
