# The configuration, and how rules take their part of it. Nothing here imports torch.
import atexit
import json
import os
import re
import shlex
import subprocess
import sys
from functools import cache

from snakemake.cli import get_argument_parser
from snakemake.exceptions import WorkflowError

from pgfl.planning.at_hand import find_at_hand, is_assembled
from pgfl.config.load import check_tables, label, load_config
from pgfl.datasets.archives import stamp as stamp_of_folder
from pgfl.datasets.registry import DATASETS, SOURCES, TRAIN_SET
from pgfl.datasets.taken import stamp_of
from pgfl.errors import UserError, fail, or_exit
from pgfl.planning.failures import explain
from pgfl.runtime.locks import join
from pgfl.runtime.machine import memory_mb, visible_gpus
from pgfl.untrusted.obtain import find as find_source
from pgfl.runtime.orphans import SNAKEMAKE
from pgfl.planning.heatmaps import WEIGHTS_FOLDER, HeatmapPlan, pose_weights, warnings_of
from pgfl.planning.results import Results, all_paths, evaluation_modules, run_folder
from pgfl.planning.shares import threads_beside
from pgfl.pose.estimators import architecture_code
from pgfl.pose.origin import check_links
from pgfl.pose.settings import EXTERNAL
from pgfl.runtime.provenance import code_hash
from pgfl.nn.settings import TIMM
from pgfl.reporting.features import FEATURE_ROWS, FEATURE_TEST_SET
from pgfl.reporting.specs import TABLES
from pgfl.planning.targets import check_targets, is_own_file

settings = or_exit(load_config, config)
# A table that is gone must not pass for "nothing to be done" because its copy is still there.
or_exit(check_tables, settings)

EXPERIMENT = settings.experiment
RUN = run_folder(EXPERIMENT, "{train}", "{variant}", "{seed}")
LABEL = label(settings)  # beside numbers
RESULTS = settings.results
ARCHIVES = f"data/{EXPERIMENT}/archives"
ENVIRONMENT = os.path.join(workflow.basedir, "envs", "pgfl.yaml")
DATASET_OF = {source.name: dataset for dataset, source in SOURCES.items()}
DRAWN = [name for name, dataset in DATASET_OF.items() if settings.is_synthetic(dataset)]
BROUGHT = [name for name in DATASET_OF if name not in DRAWN]
HEATMAPS = HeatmapPlan(settings)
RESULT = Results(settings, or_exit(find_at_hand, settings), HEATMAPS)
or_exit(check_links, HEATMAPS.files)

# `python` in a rule is the one that runs Snakemake, also where the venv is not activated.
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
# The stages end when this process does.
os.environ[SNAKEMAKE] = str(os.getpid())


def any_of(names):
    """A wildcard constraint that matches exactly these names, or nothing at all."""
    return "|".join(re.escape(name) for name in sorted(names)) or r"(?!)"


wildcard_constraints:
    dataset="|".join(sorted(settings.test_sets)),
    train="|".join(sorted(settings.train_sets)),
    split="train|query|gallery",
    variant=any_of(settings.variant_names),
    seed=r"\d+",
    number=r"\d+",


# What this machine has is a limit only where jobs run on this machine; on a cluster, its scheduler
# knows. Values of `--resources` win.
resource_scopes:
    gpu="local",


LIGHT_MB = 1000  # of memory, for a job without a network
RUNS_HERE = workflow.is_main_process and workflow.resource_settings.nodes is None
CORES = workflow.resource_settings.cores  # None where a cluster runs the jobs
GPUS = len(visible_gpus()) if RUNS_HERE else 0
if GPUS:
    workflow.global_resources.setdefault("gpu", GPUS)
if RUNS_HERE:
    workflow.global_resources.setdefault("mem_mb", memory_mb())


def beside_gpus(threads, gpus=1):
    return threads_beside(threads, gpus, cores=CORES, all_gpus=GPUS)


def as_json(value):
    """Settings as one canonical string: a rule's parameter and its command's argument."""
    return json.dumps(value, sort_keys=True)


def section(name):
    """A top-level section of the configuration as JSON."""
    return as_json(getattr(settings, name).model_dump(mode="json"))


def stop_if_networks_do_not_fit(jobs):
    """Only timm knows how many channels its networks have: it is asked before hours are spent."""
    recipes = [settings.recipe(job.wildcards.variant) for job in jobs if job.rule.name == "train"]
    timms = [recipe for recipe in recipes if recipe.model.backbone.startswith(TIMM)]
    reads = {"method", "model", "settings"}
    for given in {as_json(one.model_dump(mode="json", include=reads)) for one in timms}:
        command = [sys.executable, "-m", "pgfl", "config", "fits", "--settings", given]
        answer = subprocess.run(command, capture_output=True, text=True)
        if answer.returncode != 0:
            raise WorkflowError(f"Nothing was started.\n{answer.stderr.strip()}")


def unknown_targets():
    """Targets of the command line that no rule makes; Snakemake itself would only say so."""
    if Path(sys.argv[0]).stem not in ("snakemake", "__main__"):
        return []
    # While it reads the rules, Snakemake keeps its targets to itself.
    given = get_argument_parser().parse_known_args()[0]
    # Nothing is to be done about a file of the user's own, unless that is just what is asked for.
    forced = given.forceall or given.force
    return [
        target
        for target in given.targets
        if not workflow.is_rule(target)
        and (forced or target in HEATMAPS.own or not is_own_file(target))
        and not any(rule.is_producer(os.path.relpath(target)) for rule in workflow.rules)
    ]


def say_who_else_is_here():
    """Snakemake's own lock does not know whether the other one is alive; ours does.

    Said last of all, below Snakemake's message, unless jobs start.
    """
    global presence  # an open file: our lock on it
    if {"--nolock", "--unlock"} & set(sys.argv):
        return
    presence, others = join(Path(".snakemake/pgfl"))
    if others:
        atexit.register(
            say,
            f"Another Snakemake is at work in this folder ({others}). Wait until it is done, or "
            "stop it, then type the same command again. No --unlock while it runs.",
        )
    elif any(Path(".snakemake/locks").glob("*")):
        atexit.register(
            say,
            "The last Snakemake here was killed. Type `snakemake --unlock`, then the same command "
            "goes on where it was.",
        )


def say(*lines):
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def say_what_failed():
    """At the very end of a failed run: what each failed job said itself, or how to go on."""
    logs = sorted({str(log) for job in workflow.scheduler.failed for log in job.log})
    say("", *explain(logs), "")


def sizes(paths):
    """Sizes of a user's files: a file that is replaced by an older one has no newer time."""
    return [os.path.getsize(path) for path in paths]


def option(name, value):
    """`--name VALUE`, quoted for the shell, or nothing."""
    return f"--{name} {shlex.quote(str(value))}" if value else ""
