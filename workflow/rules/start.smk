# What the workflow says before its first job: what it trains, on which data, and what is missing.
from collections import defaultdict

from pgfl.runtime.files import write_json
from pgfl.untrusted.obtain import can_be_had, explain_missing
from pgfl.planning.plan import PLAN_FILE


def wanted_file(job):
    """What a job that gets a file looks for: the source, the user's own file, and an address."""
    if job.rule.name == "get_archive":
        source = SOURCES[DATASET_OF[job.wildcards.archive]]
        own = settings.archives.files.get(DATASET_OF[job.wildcards.archive])
    else:
        source, own = WEIGHTS[job.wildcards.network], None
    return source, Path(own) if own else None, settings.archives.urls.get(source.name, "")


def missing_file(job):
    """One line about a file that a job cannot get, or nothing."""
    source, own, url = wanted_file(job)
    folder = Path(settings.archives.folder)
    if can_be_had(source, folder, own, url):
        return ""
    if own is not None:
        return f"{own} is missing, but archives.files names it for {source.name}."
    return explain_missing(source, folder)


def missing_files(jobs):
    """One line for every file that none of these jobs could get."""
    getting = [job for job in jobs if job.rule.name in ("get_archive", "get_weights")]
    bringing = [job for job in jobs if job.rule.name == "missing_heatmaps"]
    lines = {missing_heatmaps(job) for job in bringing}
    return sorted(lines | {line for job in getting if (line := missing_file(job))})


def origin(job):
    """Where a file or an unpacked data set comes from, in a few words, or nothing."""
    if job.rule.name == "draw_archive":
        return f"{job.wildcards.archive} (drawn)"
    if job.rule.name in ("extract", "extract_lists"):
        dataset = job.wildcards_dict.get("dataset", "occluded_duke")
        folder = unpacked(dataset)
        return f"{SOURCES[dataset].title} (from folder {folder})" if folder else ""
    source, own, url = wanted_file(job)
    local = find_source(source, Path(settings.archives.folder), own)
    if missing_file(job):
        where = "MISSING"
    elif local is not None:
        where = f"from {local}"
    else:
        where = "to be downloaded"
    return f"{source.name} ({where})"


def plan(jobs):
    """A few lines: the models that these jobs train, where, and on which files."""
    models = defaultdict(lambda: defaultdict(set))
    for job in jobs:
        if job.rule.name == "train":
            models[job.wildcards.train][job.wildcards.variant].add(int(job.wildcards.seed))
    count = sum(len(seeds) for variants in models.values() for seeds in variants.values())
    yield f"Experiment {EXPERIMENT}: {count} model{'' if count == 1 else 's'} to train."
    for train, variants in sorted(models.items()):
        seeds = ", ".join(map(str, sorted(set().union(*variants.values()))))
        yield f"  on {train}: {', '.join(sorted(variants))} (seed {seeds})"
    if count and RUNS_HERE:
        here = f"{GPUS} GPU{'' if GPUS == 1 else 's'}" if GPUS else "no GPU, so on the CPU"
        yield f"  this machine: {here}; {CORES} cores for all jobs together"
    getting = ("draw_archive", "get_archive", "get_weights", "extract", "extract_lists")
    if files := sorted({origin(job) for job in jobs if job.rule.name in getting} - {""}):
        yield f"  of {', '.join(files)}"
    if own := sorted({file for job in jobs for file in job.input if file in OWN_HEATMAPS}):
        yield f"  with heatmaps of your own: {', '.join(own)}"


def left_out_by(jobs):
    """The list of what these jobs go without, as far as it concerns them."""
    if {job.rule.name for job in jobs} & {"all", "html_report"}:
        return LEFT_OUT
    tables = [job for job in jobs if job.rule.name in ("dataset_table", "table", "comparison")]
    names = sorted(Path(job.output.csv).stem for job in tables)
    gaps = {name: GAPS[name] for name in names if name in GAPS}
    return left_out_of(gaps, {dataset for missing in gaps.values() for dataset in missing}, [])


def at_the_start(dag):
    """Say what will be done, or stop with one message for everything that no job could get."""
    if workflow.local_exec and workflow.resource_settings.nodes is not None:
        raise WorkflowError(
            "Nothing was started: beside a number of cores (the default profile has one), --jobs "
            "would take Snakemake's limit off them. Say --cores N instead of --jobs N or -j N."
        )
    jobs = list(dag.needrun_jobs())
    if missing := missing_files(jobs):
        raise WorkflowError("\n".join(["Nothing was started.", *missing]))
    if workflow.is_main_process:
        say(*plan(jobs), *left_out_by(dag.jobs))


def at_the_end():
    """Say once more what is left out: what was said at the start is far above by now."""
    if workflow.is_main_process and (lines := left_out_by(workflow.dag.jobs)):
        say("", *lines)


def write_plan(path):
    """All jobs of the DAG as JSON, for `pgfl status` and `pgfl costs`."""
    jobs = [
        {
            "rule": job.rule.name,
            "wildcards": job.wildcards_dict,
            "needed": workflow.dag.needrun(job),
        }
        for job in workflow.dag.jobs
    ]
    content = {"experiment": EXPERIMENT, "config": config, "jobs": jobs}
    write_json(Path(path), content | {"left_out": left_out_by(workflow.dag.jobs)})


def after_a_dry_run():
    """Say the same at its end, where it is read; Snakemake has no hook for that."""
    if not workflow.dryrun or workflow.dag is None:
        return
    if PLAN_FILE in os.environ:
        write_plan(os.environ[PLAN_FILE])
        return
    if jobs := list(workflow.dag.needrun_jobs(exclude_finished=False)):
        missing = missing_files(jobs)
        heading = ["Missing, so that a run would not start:"] if missing else []
        say(*plan(jobs), *heading, *missing)
    if lines := left_out_by(workflow.dag.jobs):
        say(*lines)


if workflow.is_main_process:
    atexit.register(after_a_dry_run)
if "--report" in sys.argv:
    config["left_out"] = LEFT_OUT  # for the report's first page
