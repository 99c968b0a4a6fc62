"""What a result came from: hashes of the code that made it, the commit, the versions."""

import ast
import functools
import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from importlib import metadata
from importlib.util import cache_from_source
from pathlib import Path

from pgfl.runtime.files import whole_file

PACKAGE_ROOT = Path(__file__).resolve().parents[2]

WITHOUT_NUMBERS = frozenset(
    {
        "pgfl",
        "pgfl.datasets.registry",  # names only, as of the methods: rules name a data set's module
        "pgfl.runtime.allocator",
        "pgfl.errors",
        "pgfl.runtime.messages",
        "pgfl.runtime.files",
        "pgfl.runtime.locks",
        "pgfl.losses",  # names only, as of the methods: a new one changes no number
        "pgfl.methods",
        "pgfl.untrusted.obtain",
        "pgfl.pose.check",
        "pgfl.pose.origin",
        "pgfl.runtime.progress",
        "pgfl.runtime.provenance",
        "pgfl.training.live",
        "pgfl.training.parcel",
    }
)
"""Modules that find, write, record or show things and decide no number: no hash counts them, or
another wording of a message would train everything again."""

RECORDED_PACKAGES = (
    "torch", "numpy", "opencv-python-headless", "h5py", "mmpose", "mmcv-lite", "onedl-mmengine",
    "lightning-fabric", "pandas", "pillow", "safetensors", "snakemake", "timm",
)  # fmt: skip


def code_hash(*entry_modules: str, without: Collection[str] = ()) -> str:
    """One hash over the `pgfl` modules that the entry modules import, directly or through others.

    Modules are parsed, never run. Comments, layout, docstrings (those of attributes, too), what an
    error says and the modules of `WITHOUT_NUMBERS` do not count, so only an edit that can change
    what the code computes changes the hash. Snakemake itself follows no imports: rules pass this
    hash as a parameter, which makes exactly the stages that use an edited module run again.

    Args:
        entry_modules: where the stage begins.
        without: modules that are imported but do not run, as the branches of a baseline.

    Raises:
        ValueError: an entry module does not exist.
    """
    return _hash(frozenset(entry_modules), WITHOUT_NUMBERS.union(without))


# Planning asks some hundred times, mostly the same: the files do not change meanwhile.
@functools.cache
def _hash(entry_modules: frozenset[str], left_out: frozenset[str]) -> str:
    digest = hashlib.sha256()
    for module in sorted(_closure(entry_modules, left_out)):
        digest.update(module.encode())
        digest.update(_read(module)[0].encode())
    return digest.hexdigest()[:16]


def forget() -> None:
    """Have the code read again by the next hash."""
    for cached in (_hash, _module_file, _read):
        cached.cache_clear()


def _closure(entry_modules: frozenset[str], left_out: frozenset[str]) -> set[str]:
    found: set[str] = set()
    waiting = sorted(entry_modules)
    for module in waiting:
        if _module_file(module) is None:
            raise ValueError(f"no module named {module!r} below {PACKAGE_ROOT}")
    while waiting:
        module = waiting.pop()
        if module in found or module in left_out or _module_file(module) is None:
            continue
        found.add(module)
        waiting.extend(_read(module)[1])
        # Importing pgfl.b.c runs pgfl.b, too.
        waiting.append(module.rpartition(".")[0])
    return found


@functools.cache
def _module_file(module: str) -> Path | None:
    path = PACKAGE_ROOT.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@functools.cache
def _read(module: str) -> tuple[str, tuple[str, ...]]:
    """A hash of a module's code without comments and docstrings, and what it imports of `pgfl`.

    Parsing every module takes a third of the time of `snakemake -n`. So what was found is kept
    beside Python's own compiled files, and taken from there while the text is the same.
    """
    path = _module_file(module)
    assert path is not None
    text = path.read_bytes()
    of = hashlib.sha256(_READER + module.encode() + b"\n" + text).hexdigest()
    kept = Path(cache_from_source(str(path))).with_suffix(".code.json")
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(kept.read_bytes())
        if found["of"] == of:
            return found["code"], tuple(found["imports"])
    code, imports = _parsed(module, path.name == "__init__.py", text.decode())
    if not sys.dont_write_bytecode:
        with suppress(OSError), whole_file(kept) as temporary:  # a package may lie read-only
            temporary.write_text(json.dumps({"of": of, "code": code, "imports": imports}))
    return code, imports


_READER = hashlib.sha256(Path(__file__).read_bytes()).digest()


def _parsed(module: str, is_package: bool, text: str) -> tuple[str, tuple[str, ...]]:
    tree = _Bare().visit(ast.parse(text))
    package = module if is_package else module.rpartition(".")[0]
    imported: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            source = ".".join([*(above if node.level else ()), *filter(None, [node.module])])
            imported.append(source)
            # `from pgfl.losses import triplet` may name a module as well as an attribute.
            imported.extend(f"{source}.{alias.name}" for alias in node.names)
    own = tuple(name for name in imported if name.split(".")[0] == "pgfl")
    return hashlib.sha256(repr(_plain(tree)).encode()).hexdigest(), own


def _plain(node: object) -> object:
    """A syntax tree as nested lists, the same under every version of Python.

    `ast.dump` is not: a field that a new version adds to every function would train all again.
    """
    if isinstance(node, list):
        return [_plain(part) for part in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
    return [type(node).__name__, *([name, _plain(value)] for name, value in fields)]


class _Bare(ast.NodeTransformer):
    """Takes texts away that decide no number: docstrings, wherever they stand, and messages."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                part.value = ""
        return self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        # Python 3.12 finds empty texts between the parts of an f-string.
        parts = [part for part in node.values if getattr(part, "value", None) != ""]
        return self.generic_visit(ast.JoinedStr(parts))


def git_commit() -> str:
    """The commit of the checkout this package lies in, `+dirty` added where files differ.

    An empty string outside of a git checkout.
    """
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+dirty" if _git("status", "--porcelain", "--", "pgfl") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(PACKAGE_ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def environment() -> dict[str, str]:
    """Versions of Python, the machine and the packages that a number can depend on."""
    versions = {"python": platform.python_version(), "machine": platform.platform()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
