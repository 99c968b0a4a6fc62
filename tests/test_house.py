"""The house is as docs/developing.md draws it: rooms, imports, and nothing that nobody uses."""

import ast
import pickletools
import re
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "developing.md").read_text()
MODULES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((REPOSITORY / "pgfl").rglob("*.py"))
}
ROOMS = [
    name.removesuffix(".py") for name in re.findall(r"^\| `pgfl/([a-z_.]+)/?` \|", PAGE, re.M)
]
"""From the one that all others stand on to the one that stands on all others."""


def imported_by(module):
    """The `pgfl` modules that a module imports, wherever it does; types alone do not count."""
    tree = ast.parse(MODULES[module].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: a relative import; write it out"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in MODULES else node.module)
    return {name for name in found if name in MODULES} - {module}


def room(module):
    return module.split(".")[1]


def test_the_page_names_every_room_once():
    rooms = {room(module) for module in MODULES if module not in ("pgfl", "pgfl.__main__")}
    assert sorted(ROOMS) == sorted(rooms)


@pytest.mark.parametrize("module", [name for name in MODULES if name.count(".")])
def test_a_room_imports_only_from_the_rooms_above_it(module):
    if module == "pgfl.__main__":
        return
    place = ROOMS.index(room(module))
    above = {name for name in imported_by(module) if name.count(".")}
    assert [name for name in sorted(above) if ROOMS.index(room(name)) > place] == []


def test_no_modules_import_each_other_in_a_circle():
    graph = {module: imported_by(module) for module in MODULES if module != "pgfl"}
    TopologicalSorter(graph).prepare()  # raises a CycleError that names the circle


# What is called, though by no name in our own text ----------------------------------------------

CALLED_BY_OTHERS = {
    "visit_Expr": "ast.NodeTransformer",
    "visit_Raise": "ast.NodeTransformer",
    "visit_JoinedStr": "ast.NodeTransformer",
    "model_post_init": "pydantic",
    "setup_module": "lightning_fabric",
    "_check_input_dim": "torch.nn.SyncBatchNorm",
    "forward": "torch.nn.Module",
    **{f"_{opcode.name.lower()}": "pgfl.untrusted.pickled" for opcode in pickletools.opcodes},
}
TESTS_ONLY = {"forget": "tests edit modules between two hashes"}


def defined(tree):
    """Functions, methods and classes that no decorator hands to somebody else."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            plain = {"property", "staticmethod", "classmethod", "contextmanager", "dataclass"}
            used = {re.split(r"[(.]", ast.unparse(one))[0] for one in node.decorator_list}
            if used <= plain | {"functools", "torch"} and not re.fullmatch("__.*__", node.name):
                yield node.name


def test_every_function_is_used_somewhere():
    sources = [
        *(path for name in ("pgfl", "benchmarks") for path in (REPOSITORY / name).rglob("*.py")),
        *(REPOSITORY / "workflow").rglob("*.smk"),
        REPOSITORY / "Snakefile",
        REPOSITORY / "docs" / "api.md",
    ]
    words = Counter(re.findall(r"\w+", "\n".join(path.read_text() for path in sources)))
    names = Counter(
        name for path in MODULES.values() for name in defined(ast.parse(path.read_text()))
    )
    unused = {name for name, times in names.items() if words[name] <= times}
    assert sorted(unused - CALLED_BY_OTHERS.keys() - TESTS_ONLY.keys()) == []
