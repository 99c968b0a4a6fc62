# What the workflow says before its first job: what it trains, on which data, and what is missing.
from pgfl.runtime.files import write_json
from pgfl.planning.beginning import Machine, left_out_by, misfits, missing_files, plan_lines
from pgfl.planning.plan import PLAN_FILE


def plan(jobs):
    here = Machine(CORES, GPUS) if RUNS_HERE else None
    return plan_lines(settings, HEATMAPS, jobs, OWN.unpacked, here)


def at_the_start(dag):
    """Say what will be done, or stop with one message for everything that no job could get."""
    if workflow.local_exec and workflow.resource_settings.nodes is not None:
        raise WorkflowError(
            "Nothing was started: beside a number of cores (the default profile has one), --jobs "
            "would take Snakemake's limit off them. Say --cores N instead of --jobs N or -j N."
        )
    jobs = list(dag.needrun_jobs())
    if missing := missing_files(settings, jobs):
        raise WorkflowError("\n".join(["Nothing was started.", *missing]))
    if workflow.is_main_process:
        say(*plan(jobs), *left_out_by(RESULT, dag.jobs))
    if wrong := misfits(settings, jobs):
        raise WorkflowError("\n".join(["Nothing was started.", *wrong]))


def at_the_end():
    """Say once more what is left out: what was said at the start is far above by now."""
    if workflow.is_main_process and (lines := left_out_by(RESULT, workflow.dag.jobs)):
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
    write_json(Path(path), content | {"left_out": left_out_by(RESULT, workflow.dag.jobs)})


def after_a_dry_run():
    """Say the same at its end, where it is read; Snakemake has no hook for that."""
    if not workflow.dryrun or workflow.dag is None:
        return
    if PLAN_FILE in os.environ:
        write_plan(os.environ[PLAN_FILE])
        return
    if jobs := list(workflow.dag.needrun_jobs(exclude_finished=False)):
        missing = missing_files(settings, jobs)
        heading = ["Missing, so that a run would not start:"] if missing else []
        say(*plan(jobs), *heading, *missing)
    if lines := left_out_by(RESULT, workflow.dag.jobs):
        say(*lines)


if workflow.is_main_process:
    atexit.register(after_a_dry_run)
if "--report" in sys.argv:
    config["left_out"] = RESULT.left_out()  # for the report's first page
