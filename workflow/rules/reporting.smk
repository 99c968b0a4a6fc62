# The deliverables: nothing but what people read goes to results/.


MANIFESTS = {dataset: f"data/{EXPERIMENT}/{dataset}/manifest.csv" for dataset in TRAIN_SET}


rule dataset_table:
    input:
        manifests=list(MANIFESTS.values()),
        counts=[path.replace("manifest.csv", "counts.json") for path in MANIFESTS.values()],
    output:
        csv=f"{RESULTS}/table1.csv",
        markdown=f"{RESULTS}/table1.md",
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


def evaluations(number):
    """The evaluation files that a table is made of: variant -> test set -> one file a seed."""
    spec = TABLES[number]
    return {
        variant: {
            test_set: [
                f"{run_folder(TRAIN_SET[test_set], variant, seed)}/eval/{test_set}.json"
                for seed in settings.seeds
            ]
            for test_set in spec.test_sets
        }
        for variant in spec.reproduced.values()
    }


rule table:
    input:
        lambda w: [
            path
            for sets in evaluations(int(w.number)).values()
            for paths in sets.values()
            for path in paths
        ],
    output:
        csv=f"{RESULTS}/table{{number}}.csv",
        markdown=f"{RESULTS}/table{{number}}.md",
    wildcard_constraints:
        number=any_of(map(str, TABLES)),
    params:
        evaluations=lambda w: as_json(evaluations(int(w.number))),
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
        figure=f"{RESULTS}/heatmaps.png",
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
