# The configuration, and how rules take their part of it. Nothing here imports torch.
import atexit
import json
import os
import re
import sys
from functools import partial

from snakemake.cli import get_argument_parser
from snakemake.exceptions import WorkflowError

from pgfl.config.load import check_tables, label, load_config
from pgfl.config.sources import WEIGHTS
from pgfl.datasets.registry import DATASETS, SOURCES, TRAIN_SET
from pgfl.errors import or_exit
from pgfl.planning.arguments import any_of, as_json, json_option, option
from pgfl.planning.at_hand import find_at_hand, is_assembled
from pgfl.planning.beginning import in_the_way
from pgfl.planning.code import evaluation_code, reading_code
from pgfl.planning.failures import explain
from pgfl.planning.heatmaps import WEIGHTS_FOLDER, HeatmapPlan, pose_weights, warnings_of
from pgfl.planning.own_files import OwnFiles, sizes
from pgfl.planning.results import Results, all_paths, run_folder
from pgfl.planning.shares import threads_beside
from pgfl.planning.targets import check_targets, is_own_file
from pgfl.pose.estimators import architecture_code
from pgfl.pose.origin import check_links
from pgfl.pose.settings import EXTERNAL
from pgfl.reporting.paper.features import FEATURE_ROWS, FEATURE_TEST_SET
from pgfl.reporting.paper.specs import TABLES
from pgfl.runtime.locks import join
from pgfl.runtime.machine import memory_mb, visible_gpus
from pgfl.runtime.orphans import SNAKEMAKE
from pgfl.runtime.provenance import code_hash

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
OWN = OwnFiles(settings)
HEATMAPS = HeatmapPlan(settings)
RESULT = Results(settings, or_exit(find_at_hand, settings), HEATMAPS)
or_exit(check_links, HEATMAPS.files)

# `python` in a rule is the one that runs Snakemake, also where the venv is not activated.
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
# The stages end when this process does.
os.environ[SNAKEMAKE] = str(os.getpid())


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
beside_gpus = partial(threads_beside, cores=CORES, all_gpus=GPUS)


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
    if line := in_the_way(others, locked=any(Path(".snakemake/locks").glob("*"))):
        atexit.register(say, line)


def say(*lines):
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def say_what_failed():
    """At the very end of a failed run: what each failed job said itself, or how to go on."""
    logs = sorted({str(log) for job in workflow.scheduler.failed for log in job.log})
    say("", *explain(logs), "")
