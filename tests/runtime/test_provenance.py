import ast
import subprocess

import pytest

from pgfl.runtime import provenance
from pgfl.runtime.provenance import code_hash, environment, git_commit


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small `pgfl` package: stage -> loss -> helper, and an unrelated module."""
    monkeypatch.setattr(provenance, "PACKAGE_ROOT", tmp_path)
    provenance.forget()
    root = tmp_path / "pgfl"
    (root / "losses").mkdir(parents=True)
    files = {
        "__init__.py": '__version__ = "1"\n',
        "stage.py": "def run():\n    from pgfl.losses import triplet\n    return triplet.loss()\n",
        "losses/__init__.py": "",
        "losses/triplet.py": "import math\nimport pgfl.helper\n\n\ndef loss():\n    return 1\n",
        "helper.py": "from . import sibling\nfrom .losses.relative import z\n"
        "from pgfl import errors\n"
        'y = 0\n"""Of an attribute."""\n\n\ndef help():\n    """Words."""\n    return 2\n',
        "sibling.py": "x = 1\nif x > 2:\n    raise ValueError(f'one {x} word' + ' more')\n",
        "losses/relative.py": "z = 1\n",
        "errors.py": "x = 1\n",
        "unrelated.py": "x = 1\n",
    }
    for name, text in files.items():
        (root / name).write_text(text)
    monkeypatch.setattr(provenance.sys, "dont_write_bytecode", False)
    yield root
    provenance.forget()


def rehash():
    provenance.forget()
    return code_hash("pgfl.stage")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("helper.py", "return 2", "return 3"),
        ("losses/triplet.py", "return 1", "return 4"),
        ("stage.py", "triplet.loss()", "triplet.loss() + 1"),
        ("sibling.py", "1", "2"),
        ("sibling.py", "x > 2", "x > 3"),
        ("sibling.py", "ValueError", "TypeError"),
        ("losses/relative.py", "1", "2"),
    ],
)
def test_an_edit_anywhere_in_the_imports_changes_the_hash(package, file, old, new):
    before = rehash()
    path = package / file
    path.write_text(path.read_text().replace(old, new, 1))
    assert rehash() != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("helper.py", "Words.", "Other words."),
        ("helper.py", "return 2", "return 2  # a comment"),
        ("helper.py", "Of an attribute.", "Of the attribute."),
        ("helper.py", 'y = 0\n"""Of an attribute."""\n', "y = 0\n"),
        ("errors.py", "x = 1", "x = 2"),
        ("sibling.py", "one {x} word", "{x} in other words"),
        ("losses/triplet.py", "import math\n", "import math\n\n\n"),
        ("losses/__init__.py", "", "y = 1\n"),  # names only
        ("unrelated.py", "1", "2"),
        ("__init__.py", "1", "2"),
    ],
)
def test_comments_docstrings_layout_and_other_modules_do_not(package, file, old, new):
    before = rehash()
    path = package / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert rehash() == before


def test_a_module_that_does_not_run_can_be_left_out_with_all_that_only_it_imports(package):
    def short():
        provenance.forget()
        return code_hash("pgfl.stage", without={"pgfl.losses.triplet"})

    before = short()
    assert before != rehash()
    for name in ("losses/triplet.py", "helper.py"):
        (package / name).write_text("y = 3\n")
    assert short() == before


# TensorBoard's writer; the bytes of a batch on their way; maps that are refused or not.
MAY_IMPORT = {
    "pgfl.training.live": {"torch"},
    "pgfl.training.parcel": {"numpy"},
    "pgfl.pose.check": {"numpy"},
}


def test_modules_that_no_hash_counts_cannot_compute():
    for module in provenance.WITHOUT_NUMBERS:
        path = provenance._module_file(module)
        assert path is not None, module
        imported = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module] if isinstance(node, ast.ImportFrom) else [])
            + [alias.name for alias in node.names]
        }
        assert not imported & {"torch", "numpy", "cv2", "pandas", "h5py", "PIL", "scipy"} - (
            MAY_IMPORT.get(module, set())
        )


def test_parsing_never_runs_the_code(package):
    (package / "helper.py").write_text("raise SystemExit('ran')\n")
    assert rehash()


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_another_python_has_the_same_hash(version):
    stages = ["pgfl.training.stage", "pgfl.pose.stage", "pgfl.reporting.paper.tables"]
    script = f"from pgfl.runtime.provenance import code_hash; print(code_hash(*{stages}))"
    try:
        result = subprocess.run(
            [f"python{version}", "-c", script],
            cwd=provenance.PACKAGE_ROOT,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip(f"there is no Python {version} here")
    if result.returncode and "pgfl" not in result.stderr:
        pytest.skip(f"Python {version} does not start here")
    assert result.stdout.strip() == code_hash(*stages), result.stderr


def test_an_entry_that_does_not_exist_is_an_error(package):
    with pytest.raises(ValueError, match="no module named"):
        code_hash("pgfl.nowhere")


def test_the_environment_names_what_numbers_depend_on():
    versions = environment()
    assert versions["torch"].startswith("2.13.0")
    assert {"python", "machine", "numpy", "mmpose", "h5py"} <= versions.keys()


def test_outside_of_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGE_ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() == ""


def test_what_was_read_is_kept_and_not_read_again(package, monkeypatch):
    before = rehash()
    kept = sorted((package / "__pycache__").glob("*.code.json"))
    assert [path.name.partition(".")[0] for path in kept] == ["helper", "sibling", "stage"]
    monkeypatch.setattr(provenance.ast, "parse", None)
    assert rehash() == before


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"of": 1}', b"\xff", b'{"of": "", "code": ""}'])
def test_a_kept_reading_that_is_damaged_or_of_another_text_is_not_used(package, damage):
    before = rehash()
    for path in package.rglob("*.code.json"):
        path.write_bytes(damage)
    assert rehash() == before


def test_a_package_that_cannot_be_written_to_is_hashed_all_the_same(package, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "no", str(path))

    monkeypatch.setattr(provenance, "whole_file", refuse)
    assert rehash() and not list(package.rglob("*.json"))
