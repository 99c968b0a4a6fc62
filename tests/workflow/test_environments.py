"""The three ways to the same packages: venv, conda, and what the package itself declares."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def pins(name):
    lines = (ROOT / "envs" / name).read_text().splitlines()
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def test_conda_installs_what_the_venv_has():
    content = yaml.safe_load((ROOT / "envs" / "pgfl.yaml").read_text())
    (pip,) = (part for part in content["dependencies"] if isinstance(part, dict))
    assert set(pip["pip"]) == pins("requirements.txt")
    script = (ROOT / "envs" / "pgfl.post-deploy.sh").read_text()
    assert all(pin in script for pin in pins("requirements-mmpose.txt"))


def test_everything_is_pinned_exactly():
    for name in (path.name for path in (ROOT / "envs").glob("requirements*.txt")):
        assert all("==" in pin for pin in pins(name)), name


def test_the_pins_satisfy_what_the_package_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = project["dependencies"] + extras["workflow"] + extras["pose"] + extras["export"]
    files = pins("requirements.txt") | pins("requirements-export.txt")
    pinned = {r.name.lower(): r for r in map(Requirement, files)}
    for requirement in map(Requirement, declared):
        (version,) = pinned[requirement.name.lower()].specifier
        assert requirement.specifier.contains(version.version), requirement


def test_no_package_is_pinned_twice():
    files = [path.name for path in (ROOT / "envs").glob("requirements*.txt")]
    names = [pin.partition("==")[0].lower() for name in files for pin in pins(name)]
    assert len(names) == len(set(names))


def test_make_installs_all_pins():
    text = (ROOT / "Makefile").read_text()
    assert all(f"envs/{path.name}" in text for path in (ROOT / "envs").glob("*.txt"))


def test_the_profiles_name_rules_that_there_are():
    rules = {
        name
        for path in (ROOT / "workflow" / "rules").glob("*.smk")
        for name in re.findall(r"(?m)^(?:rule|use rule \w+ as) (\w+)", path.read_text())
    }
    profile = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
    assert profile["set-resources"].keys() <= rules
    # The rules say the rest themselves, from the configuration; here it would win over that.
    assert all(set(given) == {"runtime"} for given in profile["set-resources"].values())


def test_every_rule_has_the_environment():
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        text = path.read_text()
        assert text.count("\nrule ") == text.count("conda:\n        ENVIRONMENT"), path
