# PGFL-KD: from archives of person images to the paper's tables.
# Start reading at workflow/rules/: data -> pose -> training -> evaluation -> reporting.
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.20")

sys.path.insert(0, workflow.basedir)

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
        KEPT,


say_who_else_is_here()


onstart:
    atexit.unregister(say)
    at_the_start(workflow.dag)


onerror:
    say_what_failed()
