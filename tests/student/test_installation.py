"""What importing costs, and that a plain installation is enough for a student."""

import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]

USE = """
import sys
from importlib.abc import MetaPathFinder

missing = set({missing!r})

class NotInstalled(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if path is None and name in missing:
            raise ModuleNotFoundError("not installed: " + name, name=name)

sys.meta_path.insert(0, NotInstalled())
model, folder, out = {arguments!r}
import pgfl
from pathlib import Path
features = pgfl.load(model, device="cpu").embed([folder + "/01.jpg"])
assert features.shape == (1, 512)
from pgfl.cli.main import app
common = ["-m", model, "--device", "cpu"]
app(["embed", folder, "-o", out + "/f.npz", *common], standalone_mode=False)
outs = [word for kind in ("html", "png", "csv") for word in ("-o", out + "/r." + kind)]
query = ["--query", folder + "/02.jpg", "--gallery", out + "/f.npz"]
app(["search", *query, *outs, *common], standalone_mode=False)
try:
    import h5py
except ModuleNotFoundError:
    print("as it should be")
"""


def python(code, **options):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, **options)


def test_importing_the_package_imports_nothing_else():
    code = (
        "import sys; before = set(sys.modules)\n"
        "import pgfl\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names)))\n"
        "print(callable(pgfl.load), 'torch' in sys.modules)\n"
        "roots = {name.partition('.')[0] for name in sys.modules}\n"
        "unwanted = {'snakemake', 'mmpose', 'mmcv', 'mmengine', 'matplotlib', 'pandas', 'h5py'}\n"
        "print(sorted(roots & unwanted))\n"
        "try:\n    pgfl.lood\nexcept AttributeError as error:\n    print(error)\n"
    )
    result = python(code)
    assert result.stdout.splitlines() == [
        "['pgfl']",
        "True True",
        "[]",
        "module 'pgfl' has no attribute 'lood'",
    ], result.stderr


def closure(requirements):
    """The names of all packages that some requirements bring along."""
    found, waiting = set(), list(requirements)
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if name in found or not wanted:
            continue
        found.add(name)
        try:
            waiting += metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # needed elsewhere only, or an alternative
    return found


def test_a_plain_installation_is_enough_for_a_student(model_file, people, tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    brought = closure(project["dependencies"] + project["optional-dependencies"]["opencv"])
    assert {"torch", "numpy", "typer"} <= brought
    assert not {"snakemake", "mmpose", "h5py", "pandas", "matplotlib", "scipy"} & brought
    missing = {
        module
        for module, packages in metadata.packages_distributions().items()
        if not (brought | {"pgfl-kd"}) & set(map(canonicalize_name, packages))
    }
    assert {"snakemake", "mmpose", "h5py", "pandas", "matplotlib", "scipy"} <= missing
    arguments = (str(model_file), str(people), str(tmp_path))
    code = USE.format(missing=sorted(missing), arguments=arguments)
    result = python(code, cwd=ROOT)
    assert result.stdout.splitlines()[-1:] == ["as it should be"], result.stderr
    assert {"f.npz", "r.html", "r.png", "r.csv"} <= {path.name for path in tmp_path.iterdir()}


def test_a_missing_opencv_is_one_line(model_file, people, tmp_path):
    words = ["pgfl", "embed", str(people), "-o", "x.npz", "-m", str(model_file)]
    code = (
        "import sys; sys.modules['cv2'] = None; from pgfl.cli.main import main\n"
        f"sys.argv = {words!r}; main()"
    )
    result = python(code, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: OpenCV 4.11 or later is needed: pip install")
