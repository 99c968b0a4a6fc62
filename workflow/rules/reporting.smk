# The deliverables: nothing but what people read goes to results/.

# What `rule all` makes and the report shows.
DELIVERABLES = [
    *expand(
        f"{RESULTS}/table{{number}}.{{kind}}",
        number=[1, *TABLES],
        kind=["csv", "md", "trace.json"],
    ),
    *expand(f"{RESULTS}/figure3.{{kind}}", kind=["png", "csv", "trace.json"]),
    *expand(f"{RESULTS}/heatmaps.{{kind}}", kind=["png", "html"]),
    f"{RESULTS}/partial_duke.png",
]
PUBLISHED_TABLES = os.path.relpath(os.path.join(workflow.basedir, "pgfl/reporting/published"))


MANIFESTS = {dataset: f"data/{EXPERIMENT}/{dataset}/manifest.csv" for dataset in TRAIN_SET}


rule dataset_table:
    input:
        manifests=list(MANIFESTS.values()),
        counts=[path.replace("manifest.csv", "counts.json") for path in MANIFESTS.values()],
        published=f"{PUBLISHED_TABLES}/table1.csv",
    output:
        csv=report(
            f"{RESULTS}/table1.csv",
            caption="../report/dataset_table.rst",
            category="Tables",
            labels={"table": "1"},
        ),
        markdown=f"{RESULTS}/table1.md",
        trace=f"{RESULTS}/table1.trace.json",
    params:
        manifests=as_json(MANIFESTS),
        experiment=EXPERIMENT,
        code=code_hash("pgfl.reporting.dataset_table"),
    log:
        f"logs/{RESULTS}/table1.log",
    conda:
        ENVIRONMENT
    message:
        "Writing table 1"
    shell:
        "python -m pgfl dataset-table --out {output.csv:q} --manifests {params.manifests:q}"
        " --experiment {params.experiment} 2>&1 | tee {log:q}"


def evaluation_files(variant, test_set):
    """One evaluation file a seed."""
    return [
        f"{run_folder(TRAIN_SET[test_set], variant, seed)}/eval/{test_set}.json"
        for seed in settings.seeds
    ]


def evaluations(number):
    """The evaluation files that a table is made of: variant -> test set -> one file a seed."""
    spec = TABLES[number]
    return {
        variant: {test_set: evaluation_files(variant, test_set) for test_set in spec.test_sets}
        for variant in spec.reproduced.values()
    }


def all_paths(tree):
    """The files at the ends of nested dictionaries."""
    if isinstance(tree, list):
        return tree
    return [path for part in tree.values() for path in all_paths(part)]


rule table:
    input:
        evaluations=lambda w: all_paths(evaluations(int(w.number))),
        published=f"{PUBLISHED_TABLES}/table{{number}}.csv",
    output:
        csv=report(
            f"{RESULTS}/table{{number}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{number}"},
        ),
        markdown=f"{RESULTS}/table{{number}}.md",
        trace=f"{RESULTS}/table{{number}}.trace.json",
    wildcard_constraints:
        number=any_of(map(str, TABLES)),
    params:
        evaluations=lambda w: as_json(evaluations(int(w.number))),
        title=lambda w: TABLES[int(w.number)].title,  # for the report
        experiment=EXPERIMENT,
        code=code_hash("pgfl.reporting.tables"),
    log:
        f"logs/{RESULTS}/table{{number}}.log",
    conda:
        ENVIRONMENT
    message:
        "Writing table {wildcards.number}"
    shell:
        "python -m pgfl table {wildcards.number} --out {output.csv:q}"
        " --evaluations {params.evaluations:q} --experiment {params.experiment} 2>&1 | tee {log:q}"


rule pose_report:
    # What people look at to see that the heatmaps are what they should be.
    input:
        manifest=f"data/{EXPERIMENT}/occluded_duke/manifest.csv",
        heatmaps=f"cache/{EXPERIMENT}/heatmaps/occluded_duke/train.h5",
    output:
        page=f"{RESULTS}/heatmaps.html",
        figure=report(
            f"{RESULTS}/heatmaps.png",
            caption="../report/heatmaps.rst",
            category="Data sets",
            labels={"picture": "Heatmaps of Occluded-Duke"},
        ),
    params:
        experiment=EXPERIMENT,
        code=code_hash("pgfl.reporting.pose_report"),
    log:
        f"logs/{RESULTS}/heatmaps.log",
    conda:
        ENVIRONMENT
    message:
        "Drawing the heatmaps of Occluded-Duke's training images"
    shell:
        "python -m pgfl heatmaps report {input.heatmaps:q} --manifest {input.manifest:q}"
        " --out {output.page:q} --figure {output.figure:q} --experiment {params.experiment}"
        " 2>&1 | tee {log:q}"


SWEEPS = {
    parameter: {
        f"{value:.10g}": evaluation_files(variant, SWEPT_ON)
        for value, variant in settings.sweep(parameter).items()
    }
    for parameter in type(settings.sweeps).model_fields
}


rule figure3:
    # Every point of the curves is a variant like any other.
    input:
        evaluations=all_paths(SWEEPS),
        published=f"{PUBLISHED_TABLES}/table2.csv",
    output:
        csv=f"{RESULTS}/figure3.csv",
        picture=report(
            f"{RESULTS}/figure3.png",
            caption="../report/figure3.rst",
            category="Figures",
            labels={"figure": "3"},
        ),
        trace=f"{RESULTS}/figure3.trace.json",
    params:
        sweeps=as_json(SWEEPS),
        experiment=EXPERIMENT,
        code=code_hash("pgfl.reporting.figure3"),
    log:
        f"logs/{RESULTS}/figure3.log",
    conda:
        ENVIRONMENT
    message:
        "Drawing figure 3"
    shell:
        "python -m pgfl figure3 --out {output.csv:q} --sweeps {params.sweeps:q}"
        " --experiment {params.experiment} 2>&1 | tee {log:q}"


rule html_report:
    # Snakemake's own report of all deliverables. A second Snakemake makes it, which only reads;
    # as a rule it is made again when, and only when, something in it has changed.
    input:
        DELIVERABLES,
    output:
        f"{RESULTS}/report.html",
    params:
        config=as_json(config),
        snakefile=os.path.relpath(workflow.main_snakefile),
        code=code_hash("pgfl.reporting.report"),
    log:
        f"logs/{RESULTS}/report.log",
    conda:
        ENVIRONMENT
    localrule: True
    message:
        "Writing {output}"
    shell:
        "python -m pgfl report {input:q} --out {output:q} --config {params.config:q}"
        " --snakefile {params.snakefile:q} 2>&1 | tee {log:q}"
