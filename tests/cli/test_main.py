import resource
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import yaml

import pgfl.cli.main

COMMANDS = [
    [],
    ["archive"],
    ["archive", "synthesize"],
    ["archive", "get"],
    ["archive", "extract"],
    ["archive", "occluded-duke"],
    ["own-table"],
    ["take"],
    ["verify"],
    ["dataset-table"],
    ["archive", "partial-duke"],
    ["weights", "get"],
    ["manifest"],
    ["contact-sheet"],
    ["heatmaps", "make"],
    ["heatmaps", "check"],
    ["train"],
    ["evaluate"],
    ["score"],
    ["table"],
    ["figure3"],
    ["trace"],
    ["report"],
    ["feature-table"],
    ["speed-table"],
    ["response-figure"],
    ["diagnose"],
    ["embed"],
    ["search"],
    ["export"],
    ["ranked-lists"],
    ["failures"],
    ["visibility"],
    ["training-curves"],
    ["stress"],
    ["config", "show"],
    ["config", "fits"],
    ["config", "schema"],
]


def pgfl(*arguments, **options):
    command = [sys.executable, "-m", "pgfl", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    """Run a command in this process, which has imported what it needs; gives what `pgfl` does."""
    main = sys.modules["pgfl.cli.main"]
    # What concerns the process as a whole.
    monkeypatch.setattr(main, "end_with_snakemake", lambda: None)
    monkeypatch.setattr(main, "keep_freed_memory", lambda: None)
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["pgfl", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main.main()
        said, code = capsys.readouterr(), ended.value.code or 0
        text = isinstance(code, str)  # the interpreter would print it
        return SimpleNamespace(
            returncode=1 if text else code,
            stdout=said.out,
            stderr=said.err + (f"{code}\n" if text else ""),
        )

    yield run
    torch.set_num_threads(threads)


def test_a_command_of_this_process_is_that_of_another(here, tmp_path):
    for arguments in (["trace", "none.csv"], ["config", "show", "--variant", "model9"]):
        ours, theirs = here(*arguments), pgfl(*arguments, cwd=tmp_path)
        assert vars(ours) == {name: getattr(theirs, name) for name in vars(ours)}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command, here):
    result = here(*command, "--help")
    assert result.returncode == 0 and "Usage" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["manifest", "markt", "--images", "a", "--out", "b"], "no 'markt'; known: market1501"),
        (["archive", "extract", "no.zip", "market1501", "--out", "x"], "no.zip: no such file"),
        (["archive", "synthesize", "market1501", "--out", "x", "--settings", "{"], "not JSON"),
        (
            ["archive", "synthesize", "market1501", "--out", "x", "--settings", '{"imges": 3}'],
            "setting synthetic.imges: no such setting; did you mean 'images'?",
        ),
        (["train", "none.csv", "--out", "x", "--state", "y"], "none.csv: no such file"),
        (
            ["train", "m.csv", "--model", "x", "--history", "h", "--state", "y"],
            "--out: needed, since nothing says where these go: branches, provenance",
        ),
        (
            ["train", "m.csv", "--out", "x", "--model", "m", "--history", "m", "--state", "y"],
            "m: each file of a run needs a name of its own",
        ),
        (["evaluate", "m.safetensors", "m.csv", "--out", "x"], "m.safetensors: no such weights"),
        (
            ["evaluate", "m", "m.csv", "--out", "x", "--metric", "manhattan"],
            "setting evaluation.metric",
        ),
        (
            ["evaluate", "m", "m.csv", "--out", "x", "--use", "f_p"],
            "--use f_p: needs --branches",
        ),
        (
            ["evaluate", "m", "m.csv", "--out", "x", "--use", "part", "--branches", "b"],
            "--use part: needs --branches, --heatmaps-query and --heatmaps-gallery",
        ),
        (["table", "12", "--out", "x", "--evaluations", "{}", "--experiment", "demo"], "no 12"),
        (
            ["heatmaps", "make", "m.csv", "--split", "train", "--weights", "w", "--out", "o"]
            + ["--state", "s", "--shard", "3/2"],
            "--shard 3/2: must be i/n",
        ),
        (
            ["evaluate", "m", "m.csv", "--out", "x", "--use", "part", "--queries", "q.csv"],
            "--queries: only with the student's own feature, not with --use part",
        ),
        (
            ["ranked-lists", "m.csv", "--out", "x", "--queries", "{}", "--experiment", "demo"],
            "--queries: names no file",
        ),
        (
            ["training-curves", "--out", "x", "--experiment", "demo"]
            + ["--histories", '{"Baseline": ["none.csv"]}'],
            "none.csv: no such file",
        ),
        (
            ["stress", "m.csv", "--out", "x", "--students", '{"a": ["m"]}', "--shares", "0.1;0.2"]
            + ["--experiment", "demo"],
            "--shares: not a number",
        ),
        (["trace", "results/table2.csv"], "results/table2.trace.json: no such file"),
        (
            ["figure3", "--out", "x.csv", "--sweeps", '{"lambda": {}}', "--experiment", "demo"],
            "no 'lambda'; known: lambda_mcl, lambda_cl",
        ),
        (
            ["figure3", "--out", "x.csv", "--experiment", "demo"]
            + ["--sweeps", '{"lambda_cl": {"much": []}}'],
            "--sweeps: a value is no number",
        ),
        (
            ["figure3", "--out", "x.csv", "--sweeps", "{}", "--experiment", "demo"],
            "--sweeps: names no file",
        ),
        (
            ["table", "2", "--out", "x.csv", "--experiment", "demo"]
            + ["--evaluations", '{"baseline": ["x.json"]}'],
            '--evaluations: must be {"variant": {"test set": ["eval.json", ...]}} '
            "(got ['x.json'] as baseline)",
        ),
        (
            [
                "training-curves",
                "--out",
                "x",
                "--experiment",
                "demo",
                "--histories",
                "config.yaml",
            ],
            "config.yaml: not a JSON file",
        ),
        (
            ["visibility", "m.csv", "--out", "x", "--experiment", "demo", "--heatmaps", "q.h5"]
            + ["--queries", '{"m": [1]}'],
            '--queries: must be {"method": ["file", ...]} (got 1 as m.0)',
        ),
        (
            ["response-figure", "m.csv", "--out", "x", "--experiment", "demo"]
            + ["--students", '{"m": "/path"}'],
            "(got '/path' as m)",
        ),
        (
            ["response-figure", "m.csv", "--out", "x", "--experiment", "demo", "--students", "{}"],
            "--students: names no file",
        ),
        (
            ["diagnose", "m.csv", "--out", "x", "--experiment", "demo", "--networks", "{}"],
            "--networks: names no network",
        ),
        (
            ["diagnose", "m.csv", "--out", "x", "--experiment", "demo"]
            + ["--networks", '{"m": {"model": "a", "branches": "b", "recipe": {}}}'],
            "(m.heatmaps is missing)",
        ),
        (
            ["dataset-table", "--out", "x.csv", "--experiment", "demo", "--manifests", "{}"],
            "no manifest of market1501 is given",
        ),
        (
            ["feature-table", "--out", "x.csv", "--experiment", "demo", "--pose", "{}"]
            + ["--recipes", "{}", "--evaluations", '{"a": ["b"]}'],
            "no recipe of baseline is given",
        ),
        (["config", "fits", "--settings", f'{{"a": {"9" * 5000}}}'], "--settings: not JSON"),
        (["config", "fits", "--settings", "."], ".: Is a directory; name a file instead"),
        (["config", "schema", "--out", "."], ".: Is a directory; name a file instead"),
        (["config", "schema", "--out", "a" * 250], "aaa: File name too long; choose a shorter"),
        (["config", "schema", "--out", "/proc/none/x"], "/proc/none: No such file or directory;"),
        (["config", "show", "--configfile", "."], ".: Is a directory; name a file instead"),
        (["weights", "get", "vgg", "--out", "x"], "no 'vgg'; known: resnet18"),
        (["embed", "x", "-o", "x.npz", "-m", "m.safetensors"], "m.safetensors: no such weights"),
        (
            ["search", "--query", "q", "--gallery", "g", "-o", "r.html", "-m", "m"]
            + ["--gallery-images", "none"],
            "--gallery-images none: no such folder",
        ),
        (["config", "show", "--configfile", "none.yaml"], "none.yaml: no such file"),
        (["config", "show", "--config", "none.yaml"], "must be KEY=VALUE; a file goes to"),
        (["config", "show", "--variant", "model9"], "'model9' is not in the configuration"),
    ],
)
def test_bad_input_is_one_line_a_finding_and_status_1(tmp_path, here, arguments, message):
    (tmp_path / "config.yaml").write_text("experiment: demo\n")
    result = here(*arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert all(line.startswith("error: ") for line in result.stderr.splitlines())
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["evaluate", "m", "m.csv", "--out", "x", "--threads", "0"], "--threads"),
        (["heatmaps", "make", "m.csv", "--threads", "0"], "--threads"),
        (["train", "m.csv", "--out", "x", "--state", "y", "--threads", "0"], "--threads"),
        (["train", "m.csv", "--out", "x", "--state", "y", "--seed", f"{2**32}"], "--seed"),
    ],
)
def test_a_number_out_of_range_is_refused_at_once(here, arguments, option):
    result = here(*arguments)
    assert result.returncode == 2
    assert f"Invalid value for '{option}'" in result.stderr and "Traceback" not in result.stderr


SMALL = '{"train_identities": 4, "test_identities": 4, "images": 4, "height": 64, "width": 32}'


def no_large_files():
    """The kernel refuses any file to grow beyond 20 kB, as a full disk would."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_write_that_fails_half_way_is_one_line_and_leaves_nothing(tmp_path):
    command = ["archive", "synthesize", "market1501", "--out", "a.zip", "--settings", SMALL]
    result = pgfl(*command, cwd=tmp_path, preexec_fn=no_large_files)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and "File too large" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["/sys/pgfl/schema.json", "file/schema.json"])
def test_a_folder_that_takes_no_files_is_one_line(tmp_path, out):
    (tmp_path / "file").touch()
    result = pgfl("config", "schema", "--out", out, cwd=tmp_path)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and "choose another" in line


def test_the_resolved_configuration_can_be_looked_at(tmp_path):
    (tmp_path / "config.yaml").write_text("training: {epochs: 3, milestones: [2]}\n")
    whole = pgfl("config", "show", cwd=tmp_path)
    assert whole.returncode == 0 and "experiment: demo" in whole.stdout
    recipe = pgfl("config", "show", "--variant", "baseline", cwd=tmp_path)
    assert "epochs: 3" in recipe.stdout and "estimator" not in recipe.stdout


def test_values_are_laid_over_the_file_as_snakemake_does_it(tmp_path):
    (tmp_path / "mine.yaml").write_text("training: {epochs: 9}\nseeds: [4]\n")
    overrides = ["--config", "seeds=[0, 1]", "--config", "model={last_stride: 2}"]
    shown = pgfl("config", "show", "--configfile", "mine.yaml", *overrides, cwd=tmp_path)
    found = yaml.safe_load(shown.stdout)
    assert found["seeds"] == [0, 1] and found["model"]["last_stride"] == 2
    assert found["training"]["epochs"] == 9 and found["experiment"] == "demo"
    (tmp_path / "config.yaml").write_text("experiment: demo\n")
    paper = pgfl("config", "show", "--config", "experiment=paper", cwd=tmp_path)
    assert yaml.safe_load(paper.stdout)["model"]["backbone"] == "resnet50"


def test_everything_wrong_with_the_configuration_is_said_at_once(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "trainin: {}\nseeds: [1, 1]\ndatasets: {mine: {table: a.csv, models_of: partial_reid}}\n"
    )
    result = pgfl("config", "show", "--config", "resources={devices: 3}", cwd=tmp_path)
    assert result.returncode == 1 and result.stdout == ""
    starts = [line.split(": ")[1] for line in result.stderr.splitlines()]
    assert starts == [
        *("setting trainin", "setting seeds", "setting datasets.mine.models_of"),
        "setting resources.devices",
    ]


def test_a_reader_that_goes_away_is_no_traceback(tmp_path):
    (tmp_path / "config.yaml").write_text("experiment: demo\n")
    command = f"{sys.executable} -m pgfl config show | head -n 1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("module", "extra"), [("pandas", "workflow"), ("mmpose", "pose")])
def test_a_package_of_an_extra_that_is_missing_is_one_line(module, extra):
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from pgfl.cli import main\n"
        f"def app():\n    import {module}.core\n"
        "sys.modules['pgfl.cli.main'].app = app\nmain()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: this command needs {module}: pip install '.[{extra}]'")


def test_the_command_line_itself_is_light():
    code = (
        "import sys, pgfl.cli, pgfl.config.experiment, pgfl.config.sources\n"
        "import pgfl.reporting.paper.specs\n"
        "heavy = {'torch', 'mmpose', 'mmcv', 'matplotlib', 'pandas', 'cv2', 'snakemake'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n"
