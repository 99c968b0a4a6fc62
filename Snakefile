# PGFL-KD: from archives of person images to the paper's tables.
# Start reading at workflow/rules/: data -> pose -> training -> evaluation -> reporting.
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.20")

sys.path.insert(0, workflow.basedir)

from pgfl.config.load import check_files
from pgfl.errors import or_exit

or_exit(check_files, filter(Path.exists, [Path("config.yaml"), *workflow.overwrite_configfiles]))


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/pose.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/reporting.smk"
include: "workflow/rules/pictures.smk"
include: "workflow/rules/start.smk"


rule all:
    default_target: True
    input:
        DELIVERABLES,
        f"{RESULTS}/report.html",
        RESULT.kept(),


or_exit(check_targets, unknown_targets(), settings, [*RESULT.every_file(), "all"])
say_who_else_is_here()


onstart:
    atexit.unregister(say)
    at_the_start(workflow.dag)


onsuccess:
    at_the_end()
    say(*warnings_of_pose())


onerror:
    say(*warnings_of_pose())
    say_what_failed()
