"""Pickles read as data: nothing that a file names is imported or called.

Python's unpickler calls what the file tells it to. A list of allowed names does not help here:
real checkpoints hold objects of packages that we do not know, and even allowed parts can be put
together so that a short file fills the memory or never comes to an end. So this module follows
the opcodes itself: a name stays a name, and a call stays a record of what would be called.
"""

import pickletools
from dataclasses import dataclass, field
from typing import Any, BinaryIO

MAX_OPCODES = 2_000_000
"""HRNet-W48 as MMEngine writes it, without an optimizer's state, takes 60,000."""

_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE"),
    *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_IDLE = {"PROTO", "FRAME", "READONLY_BUFFER"}


@dataclass(eq=False)
class Named:
    """Something that a pickle names: a class, a function, or an object made by one.

    It is never that thing itself. `args` is None for the name alone, else what the pickle would
    call it with; `items` are set on it as on a dict; `state` is what would become its attributes.
    """

    name: str
    args: tuple[Any, ...] | None = None
    items: dict[Any, Any] = field(default_factory=dict)
    state: Any = None


@dataclass(eq=False)
class Stored:
    """A reference to what lies outside of the pickle (torch: the bytes of a tensor)."""

    id: Any


def read_pickle(file: BinaryIO) -> tuple[Any, list[Stored]]:
    """The content of one pickle; the file then stands behind it.

    Numbers, texts, bytes, tuples, lists and dicts are themselves; a set is a list; all else is
    `Named` or `Stored`. A dict's entries are left out whose key is no text, number, bytes or None.

    Returns:
        The content, and every reference in it.

    Raises:
        ValueError: damaged, no pickle, or too long. Damage may raise any other kind, too.
    """
    reader = _Reader()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count == MAX_OPCODES:
            raise ValueError(f"its pickle has more than {MAX_OPCODES:,} steps")
        reader.follow(opcode.name, argument)
    return reader.stack.pop(), reader.stored


def entries(value: Any) -> dict[Any, Any] | None:
    """The entries of a dict, or of a named kind of one (OrderedDict …); None for all else."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, Named):
        return None
    if value.items or not value.name.endswith("Dict"):
        return value.items or None
    # Python 2 gives an OrderedDict its entries as a list of pairs.
    pairs = value.args[0] if value.args else []
    if not isinstance(pairs, list) or not all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str)
        for pair in pairs
    ):
        return {}
    return dict(pairs)


class _Reader:
    """The machine that a pickle is a program for, less everything that acts."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.stored: list[Stored] = []

    def follow(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        if opcode in _LITERALS:
            stack.append(argument)
        elif opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
        elif opcode in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[argument] = stack[-1]
        elif opcode in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[argument])
        elif opcode not in _IDLE:
            getattr(self, f"_{opcode.lower()}", self._unknown)(argument)

    def _unknown(self, _: Any) -> None:
        raise ValueError("its pickle has an opcode that torch does not write")

    def _stop(self, _: Any) -> None:
        if len(self.stack) != 1:
            raise ValueError("its pickle ends too early")

    # The stack

    def _mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def _since_mark(self) -> list[Any]:
        start = self.marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def _pop(self, _: Any) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    # Containers

    def _empty_tuple(self, _: Any) -> None:
        self.stack.append(())

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _tuple1(self, _: Any) -> None:
        self.stack[-1:] = [(self.stack[-1],)]

    def _tuple2(self, _: Any) -> None:
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def _tuple3(self, _: Any) -> None:
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]

    def _empty_list(self, _: Any) -> None:
        self.stack.append([])

    _empty_set = _empty_list

    def _list(self, _: Any) -> None:
        self.stack.append(self._since_mark())

    _frozenset = _list

    def _append(self, _: Any) -> None:
        self._add([self.stack.pop()])

    def _appends(self, _: Any) -> None:
        self._add(self._since_mark())

    _additems = _appends

    def _add(self, values: list[Any]) -> None:
        # What is added to an object of a class (a deque …) is nothing that we use.
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)

    def _empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def _dict(self, _: Any) -> None:
        values = self._since_mark()
        self.stack.append({})
        self._set(values)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _setitems(self, _: Any) -> None:
        self._set(self._since_mark())

    def _set(self, values: list[Any]) -> None:
        top = self.stack[-1]
        target = top.items if isinstance(top, Named) else top
        if not isinstance(target, dict):
            raise ValueError("its pickle sets entries of what has none")
        # The hash of a nested tuple can take for ever.
        for key, value in zip(values[::2], values[1::2], strict=True):
            if isinstance(key, (str, int, float, bytes, type(None))):
                target[key] = value

    # Names, calls and references

    def _global(self, argument: str) -> None:
        self.stack.append(Named(argument.replace(" ", ".", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise ValueError("its pickle has a name that is no text")
        self.stack.append(Named(f"{module}.{name}"))

    def _ext1(self, _: Any) -> None:
        self.stack.append(Named("copyreg.extension"))

    _ext2 = _ext4 = _ext1

    def _reduce(self, _: Any) -> None:
        args, called = self.stack.pop(), self.stack.pop()
        self._call(called, args)

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        self.stack.pop()  # its keyword arguments
        self._reduce(None)

    def _inst(self, argument: str) -> None:
        self._call(Named(argument.replace(" ", ".", 1)), tuple(self._since_mark()))

    def _obj(self, _: Any) -> None:
        called, *args = self._since_mark()
        self._call(called, tuple(args))

    def _call(self, called: Any, args: Any) -> None:
        if not isinstance(called, (Named, Stored)) or not isinstance(args, tuple):
            raise ValueError("its pickle calls what cannot be called")
        # Old torch files store the classes of networks, too.
        name = called.name if isinstance(called, Named) else "a stored class"
        self.stack.append(Named(name, args))

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Named):
            self.stack[-1].state = state

    def _persid(self, argument: Any) -> None:
        self.stored.append(Stored(argument))
        self.stack.append(self.stored[-1])

    def _binpersid(self, _: Any) -> None:
        self._persid(self.stack.pop())
