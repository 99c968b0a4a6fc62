# PGFL-KD: from archives of person images to the paper's tables.
# Start reading at workflow/rules/: data -> pose -> training -> evaluation -> reporting.
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.20")

sys.path.insert(0, workflow.basedir)

configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/pose.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/reporting.smk"


rule all:
    default_target: True
    input:
        expand(f"{RESULTS}/table{{number}}.{{kind}}", number=[1, *TABLES], kind=["csv", "md"]),
        f"{RESULTS}/partial_duke.png",
        expand(f"{RESULTS}/table{{number}}.{{kind}}", number=[8, 9], kind=["csv", "md"]),
        expand(f"{RESULTS}/figure{{name}}", name=["1.png", "4.png", "4.csv"]),


onstart:
    stop_if_files_are_missing(workflow.dag.needrun_jobs())
