"""No code of others is ever run: not from weights, not by names, not by settings."""

import ast
import hashlib
import io
import json
import pickle
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pgfl.cli.main import app
from pgfl.config.load import load_config
from pgfl.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[1]

# What is never called, and what is called in one way only ---------------------------------------

NEVER = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "os.spawnv"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "shelve.open"),
    *("joblib.load", "dill.load", "pd.read_pickle", "pandas.read_pickle", "torch.jit.load"),
    *("yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "torch.hub.load"),
    *("mmengine.runner.load_checkpoint", "runner.load_checkpoint", "urllib.request.urlopen"),
    *("tarfile.open", "shutil.unpack_archive"),
}
LOADERS = {"OnceLoader", "SafeLoader", "BaseLoader"}
"""Plain values only; ours is a SafeLoader."""
RUNS_OUR_OWN = {"pgfl/methods/settings.py": ["compile", "exec"]}
"""The statements that a method's `Settings` needs, of a file of ours that `METHODS` names."""


def unsafe_calls(source):
    """Every call in a module's text that could run somebody else's code: `line: call`."""
    return [
        f"{call.lineno}: {name}"
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call)
        for name in [ast.unparse(call.func)]
        if name in NEVER or not is_safe(name, call)
    ] + [
        f"{node.lineno}: {node.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef)
        if any("Unpickler" in ast.unparse(base) for base in node.bases)
    ]


def is_safe(name, call):
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name.endswith(("torch.load", "load_state_dict_from_url")) and "safetensors" not in name:
        return given.get("weights_only") == "True"
    if name in ("np.load", "numpy.load"):
        return given.get("allow_pickle", "False") == "False"
    if name == "yaml.load":
        loaders = [ast.unparse(argument) for argument in call.args[1:]] + [given.get("Loader")]
        return any(loader and loader.rpartition(".")[2] in LOADERS for loader in loaders)
    if name.endswith("import_module"):
        # Of ours, with a name that was looked up among the known ones.
        return ast.unparse(call.args[0]).startswith(
            ("'pgfl.", "f'pgfl.", "module_name(", "extra_module(")
        )
    return given.get("shell", "False") == "False"


MODULES = sorted(
    path for folder in ("pgfl", "benchmarks") for path in (REPOSITORY / folder).rglob("*.py")
)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_module_can_run_the_code_of_others(path):
    found = [call.partition(": ")[2] for call in unsafe_calls(path.read_text())]
    assert found == RUNS_OUR_OWN.get(str(path.relative_to(REPOSITORY)), [])


@pytest.mark.parametrize(
    "line",
    [
        *(
            "torch.load(path)",
            "torch.load(path, weights_only=False)",
            "torch.load(p, None, pickle)",
        ),
        *("pickle.load(file)", "pickle.loads(data)", "pd.read_pickle(path)", "eval(text)"),
        *(
            "yaml.load(text)",
            "yaml.load(text, yaml.Loader)",
            "yaml.load(t, Loader=yaml.FullLoader)",
        ),
        *("np.load(path, allow_pickle=True)", "np.load(path, allow_pickle=flag)", "exec(text)"),
        *("os.system(text)", "subprocess.run(text, shell=True)", "subprocess.Popen(t, shell=yes)"),
        *("importlib.import_module(name)", "urllib.request.urlopen(url)", "os.popen(text)"),
    ],
)
def test_a_call_that_could_is_found(line):
    assert unsafe_calls(f"def f():\n    if True:\n        return [{line}]") != []


def test_an_unpickler_of_our_own_is_found():
    assert unsafe_calls("class Mine(pickle.Unpickler):\n    pass") == ["1: Mine"]
    assert unsafe_calls("class Mine(pickle._Unpickler, Other): pass") == ["1: Mine"]


@pytest.mark.parametrize(
    "line",
    [
        *(
            "torch.load(path, weights_only=True)",
            "np.load(path)",
            "np.load(p, allow_pickle=False)",
        ),
        *("yaml.load(text, OnceLoader)", "yaml.safe_load(text)", "subprocess.run([a, b])"),
        *("network.eval()", "re.compile(text)", "json.load(file)", "safetensors.torch.load(data)"),
    ],
)
def test_a_call_that_cannot_is_not(line):
    assert unsafe_calls(line) == []


# Booby-trapped files ----------------------------------------------------------------------------


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.write_text, (self.marker, "code was run")


@pytest.fixture(params=["new", "old", "bare", "inside", "beside"])
def bomb(request, tmp_path):
    """The bytes of a trapped file in several ways of writing one, and the file it would write."""
    marker = tmp_path / "code was run"
    state = {"conv1.weight": torch.ones(1), "epoch": Trap(marker)}
    stream = io.BytesIO()
    if request.param == "bare":
        stream.write(pickle.dumps(state, protocol=2))
    elif request.param == "inside":
        torch.save({"state_dict": {"conv1.weight": Trap(marker)}, "meta": {}}, stream)
    elif request.param == "beside":  # of weights that do not fit
        torch.save({"state_dict": {"conv1.weight": torch.ones(1)}, "meta": Trap(marker)}, stream)
    else:
        torch.save(state, stream, _use_new_zipfile_serialization=request.param == "new")
    content = stream.getvalue()
    if request.param == "bare":
        pickle.loads(content)
    else:
        torch.load(io.BytesIO(content), weights_only=False)
    assert marker.exists()  # the trap works
    marker.unlink()
    return content, marker


TINY = {
    "model": {"backbone": "resnet18", "height": 32, "width": 16, "pretrained": False},
    "method": "bot",
    "training": {"epochs": 1, "identities": 2, "images": 2, "precision": "fp32"},
}


@pytest.fixture
def data(tmp_path):
    """A manifest of four pictures."""
    (tmp_path / "images").mkdir()
    rows = ["image,split,pid,camid"]
    for number, split in enumerate(["train", "train", "query", "gallery"]):
        name = f"images/{number}.png"
        cv2.imwrite(str(tmp_path / name), np.full((64, 32, 3), 60 * number, np.uint8))
        rows.append(f"{name},{split},{number if split == 'train' else 9},{number}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "manifest.csv"


def refuse(arguments, named, marker):
    """Run a command that must refuse a file in one line that names it."""
    with pytest.raises(UserError) as caught:
        app([str(argument) for argument in arguments], standalone_mode=False)
    assert str(named) in str(caught.value) and "\n" not in str(caught.value)
    assert not marker.exists()


@pytest.fixture
def quiet_torch():
    """A training run's global switches are put back."""
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


def train(data, tmp_path, settings):
    return [
        *("train", data, "--out", tmp_path / "run", "--state", tmp_path / "state"),
        *("--settings", json.dumps(settings), "--threads", 1, "--workers", 0),
    ]


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_trapped_imagenet_weights_are_refused(bomb, data, tmp_path, ending, quiet_torch):
    content, marker = bomb
    weights = tmp_path / f"resnet18{ending}"
    weights.write_bytes(content)
    pretrained = TINY | {"model": TINY["model"] | {"pretrained": True}}
    refuse([*train(data, tmp_path, pretrained), "--pretrained", weights], weights, marker)
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_trapped_resume_state_is_not_taken_up(bomb, data, tmp_path, quiet_torch, capsys):
    content, marker = bomb
    (tmp_path / "state").mkdir()
    # With the checksum that the trainer itself would write.
    sealed = content + hashlib.sha256(content).digest()
    (tmp_path / "state" / "checkpoint.pt").write_bytes(sealed)
    app([str(argument) for argument in train(data, tmp_path, TINY)], standalone_mode=False)
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    (note,) = [line for line in notes if "checkpoint.pt" in line]
    assert len(notes) == 1 and "starting again from epoch 1" in note
    assert not marker.exists() and (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_trapped_hrnet_weights_are_refused(bomb, data, tmp_path, ending):
    content, marker = bomb
    weights = tmp_path / f"hrnet{ending}"
    weights.write_bytes(content)
    settings = json.dumps({"estimator": "hrnet_small", "height": 32, "width": 32})
    command = [
        *("heatmaps", "make", data, "--split", "train", "--weights", weights),
        *("--out", tmp_path / "train.h5", "--state", tmp_path / "state", "--settings", settings),
    ]
    refuse(command, weights, marker)
    assert not (tmp_path / "train.h5").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
def test_a_trapped_student_is_refused(bomb, data, tmp_path, name):
    content, marker = bomb
    (tmp_path / name).write_bytes(content)
    command = ["evaluate", tmp_path / name, data, "--out", tmp_path / "eval.json"]
    refuse(command, tmp_path / name, marker)
    refuse(
        ["embed", tmp_path / "images", "--out", tmp_path / "f.npz", "--model", tmp_path / name],
        tmp_path / name,
        marker,
    )


def test_trapped_arrays_are_refused(data, tmp_path):
    marker, joints = tmp_path / "code was run", tmp_path / "set.zip.joints.npz"
    trapped = np.array([Trap(marker)], dtype=object)
    np.savez(joints, member=trapped, joints=trapped, visible=trapped)
    with np.load(joints, allow_pickle=True) as stored:
        stored["member"]
    assert marker.exists()  # the trap works
    marker.unlink()
    command = [
        *("heatmaps", "from-joints", data, "--split", "train", "--joints", joints),
        *("--out", tmp_path / "train.h5"),
    ]
    refuse(command, joints, marker)


# Names that a shell would take for commands -----------------------------------------------------

EVIL = [
    *("x; touch pwned", "$(touch pwned)", "`touch pwned`", "a'b", 'a"b', "a b", "a\nb", "../x"),
    *("-x", "x|y", "x&y", "ü", "a/b", "", "x" * 101, "a\x00"),
]


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize(
    ("section", "content"),
    [
        ("variants", {}),
        ("datasets", {"table": "a.csv"}),
        ("comparisons", {"variants": ["baseline", "pgfl_kd"]}),
    ],
)
def test_names_that_become_part_of_paths_are_plain(section, content, name):
    with pytest.raises(UserError) as caught:
        load_config({section: {name: content}})
    line = str(caught.value)
    assert line.startswith(f"setting {section}: ") and "cannot be a name here" in line
    assert line.isprintable()


@pytest.mark.parametrize("name", EVIL)
def test_words_with_a_list_of_what_is_allowed_are_plain_anyway(name):
    for wrong in (
        {"experiment": name},
        {"pose": {"estimator": name}},
        {"evaluation": {"metric": name}},
        {"model": {"backbone": f"timm:{name}"}},
        {"archives": {"files": {name: "a.zip"}}},
        {"archives": {"urls": {name: "https://a/b"}}},
        {"stress": {"test_sets": [name]}},
        {"datasets": {"mine": {"table": "a", "models_of": name or "-"}}},
    ):
        if name == "-x" and "model" in wrong:
            continue  # a dash is a letter of timm's names
        with pytest.raises(UserError) as caught:
            load_config(wrong)
        assert all(line.isprintable() for line in str(caught.value).split("\n"))


PLAIN = {
    # Names of the configuration, which are plain words, and numbers.
    *("wildcards.dataset", "wildcards.train", "wildcards.split", "wildcards.seed"),
    *("wildcards.number", "wildcards.network", "wildcards.variant"),
    *("params.dataset", "params.experiment", "params.seed", "params.batch_size", "params.metric"),
    *("params.feature", "params.protocol", "params.trained_on", "params.shares", "params.method"),
    *("threads", "resources.workers", "resources.devices"),
}
OPTIONS = {
    *("params.rerank", "params.published", "params.photographs", "resources.tensorboard"),
    *("params.file", "params.url", "params.heatmaps", "params.pretrained", "params.against"),
    *("params.more", "params.branches", "params.query", "params.gallery", "params.weights"),
    *("params.left_out", "params.stamp"),
}
"""Whole options, which rules make themselves: `--rerank`, or by option(), which quotes."""
QUOTING = {"option", "json_option"}
RULES = sorted((REPOSITORY / "workflow" / "rules").glob("*.smk"))


def fields(command):
    """What a rule puts into its command without quotes."""
    return [field for field in re.findall(r"{([^{}]+)}", command) if not field.endswith(":q")]


def test_rules_quote_whatever_is_not_a_plain_word(rules):
    found = [field for rule in rules for field in fields(rule.command)]
    assert set(found) - PLAIN == OPTIONS
    assert sum("python -m pgfl" in rule.command for rule in rules) == len(rules)


def test_a_field_without_quotes_is_found():
    assert fields("pgfl {input} {params.folder} {log:q}") == ["input", "params.folder"]


def given_values(text, field):
    """What a file's rules give a parameter or resource that stands in their commands."""
    kind, name = field.split(".")
    for rule in re.split(r"^(?:use )?rule ", text, flags=re.M)[1:]:
        if "    shell:\n" in rule and f"{{{field}}}" not in rule:
            continue  # the parameter stands in no command
        for block in re.findall(rf"^    {kind}:\n((?:        .*\n)+)", rule, flags=re.M):
            # Keyword arguments of a call, as Snakemake itself reads them.
            (call,) = ast.parse(f"f(\n{block})").body
            yield from (word.value for word in call.value.keywords if word.arg == name)


def is_option(value):
    """Whether an expression is always a quoted option, a fixed one, or nothing."""
    if isinstance(value, ast.Lambda):
        return is_option(value.body)
    if isinstance(value, ast.IfExp):
        return is_option(value.body) and is_option(value.orelse)
    if isinstance(value, ast.Constant):
        return re.fullmatch(r"(--[a-z-]+)?", value.value) is not None
    return isinstance(value, ast.Call) and ast.unparse(value.func) in QUOTING


@pytest.mark.parametrize("field", sorted(OPTIONS))
def test_what_stands_without_quotes_is_an_option_of_the_rules_own_making(field):
    values = [value for path in RULES for value in given_values(path.read_text(), field)]
    assert values
    assert [ast.unparse(value) for value in values if not is_option(value)] == []


@pytest.mark.parametrize(
    "text",
    [
        "config['x']",
        "lambda w: w.name",
        "'--x' if a else b",
        "'; touch a'",
        "f'--x {a}'",
        "g('x')",
    ],
)
def test_what_is_no_option_of_the_rules_own_making_is_found(text):
    rule = f"rule a:\n    params:\n        y=1,\n        x={text},\n"
    (value,) = given_values(rule, "params.x")
    assert not is_option(value)
