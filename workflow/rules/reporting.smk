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


# Tables 8 and 9, Figures 1 and 4: what a trained model does at test time.

FEATURE_MANIFEST = f"data/{EXPERIMENT}/{FEATURE_TEST_SET}/manifest.csv"
RESPONSES_OF = {"Baseline": "baseline", "PGFL-KD": "pgfl_kd"}


def feature_run(variant, seed):
    return run_folder(TRAIN_SET[FEATURE_TEST_SET], variant, seed)


def feature_evaluations():
    """The evaluation files of Table 8: method -> one file a seed."""

    def file(row, seed):
        kind = f".{row.feature}" if row.needs_pose else ""
        return f"{feature_run(row.variant, seed)}/eval/{FEATURE_TEST_SET}{kind}.json"

    return {
        method: [file(row, seed) for seed in settings.seeds]
        for method, row in FEATURE_ROWS.items()
    }


def students(variants):
    """Trained students: method -> one file a seed."""
    return {
        method: [f"{feature_run(variant, seed)}/model.safetensors" for seed in settings.seeds]
        for method, variant in variants.items()
    }


def flat(files):
    return [path for paths in files.values() for path in paths]


rule feature_table:
    input:
        flat(feature_evaluations()),
    output:
        csv=report(
            f"{RESULTS}/table8.csv",
            caption="../report/table8.rst",
            category="Tables",
            labels={"table": "8"},
        ),
        markdown=f"{RESULTS}/table8.md",
    params:
        evaluations=as_json(feature_evaluations()),
        # What runs at test time does not depend on how it was trained.
        recipes=as_json(
            {
                row.variant: settings.recipe(row.variant).model_dump(
                    mode="json", include={"model", "loss"}
                )
                for row in FEATURE_ROWS.values()
            }
        ),
        pose=section("pose"),
        experiment=EXPERIMENT,
        code=code_hash("pgfl.reporting.feature_table"),
    log:
        f"logs/{RESULTS}/table8.log",
    conda:
        ENVIRONMENT
    message:
        "Writing table 8"
    shell:
        "python -m pgfl feature-table --out {output.csv:q} --evaluations {params.evaluations:q}"
        " --recipes {params.recipes:q} --pose {params.pose:q} --experiment {params.experiment}"
        " 2>&1 | tee {log:q}"


rule speed_table:
    # All cores, so that Snakemake runs nothing beside it while it looks at the clock.
    input:
        model=f"{feature_run('pgfl_kd', settings.seeds[0])}/model.safetensors",
        branches=f"{feature_run('pgfl_kd', settings.seeds[0])}/branches.safetensors",
        manifest=FEATURE_MANIFEST,
        weights=pose_weights,
    output:
        csv=report(
            f"{RESULTS}/table9.csv",
            caption="../report/table9.rst",
            category="Tables",
            labels={"table": "9"},
        ),
        markdown=f"{RESULTS}/table9.md",
    params:
        pose=section("pose"),
        experiment=EXPERIMENT,
        code=code_hash("pgfl.reporting.speed_table"),
    log:
        f"logs/{RESULTS}/table9.log",
    conda:
        ENVIRONMENT
    threads: workflow.cores or settings.resources.train_threads
    message:
        "Timing queries for table 9"
    shell:
        "python -m pgfl speed-table {input.model:q} {input.manifest:q} --out {output.csv:q}"
        " --branches {input.branches:q} --weights {input.weights:q} --pose {params.pose:q}"
        " --experiment {params.experiment} --threads {threads} 2>&1 | tee {log:q}"


rule baseline_responses:
    input:
        models=flat(students({"Baseline": "baseline"})),
        manifest=FEATURE_MANIFEST,
    output:
        report(
            f"{RESULTS}/figure1.png",
            caption="../report/figure1.rst",
            category="Figures",
            labels={"figure": "1"},
        ),
    params:
        students=as_json(students({"Baseline": "baseline"})),
        experiment=EXPERIMENT,
        code=code_hash("pgfl.reporting.response_figure"),
    log:
        f"logs/{RESULTS}/figure1.log",
    conda:
        ENVIRONMENT
    threads: settings.resources.train_threads
    message:
        "Drawing figure 1"
    shell:
        "python -m pgfl response-figure {input.manifest:q} --out {output:q}"
        " --students {params.students:q} --experiment {params.experiment} --threads {threads}"
        " 2>&1 | tee {log:q}"


rule responses:
    input:
        models=flat(students(RESPONSES_OF)),
        manifest=FEATURE_MANIFEST,
        heatmaps=f"cache/{EXPERIMENT}/heatmaps/{FEATURE_TEST_SET}/query.h5",
    output:
        figure=report(
            f"{RESULTS}/figure4.png",
            caption="../report/figure4.rst",
            category="Figures",
            labels={"figure": "4"},
        ),
        csv=f"{RESULTS}/figure4.csv",
    params:
        students=as_json(students(RESPONSES_OF)),
        experiment=EXPERIMENT,
        code=code_hash("pgfl.reporting.response_figure"),
    log:
        f"logs/{RESULTS}/figure4.log",
    conda:
        ENVIRONMENT
    threads: settings.resources.train_threads
    message:
        "Drawing figure 4"
    shell:
        "python -m pgfl response-figure {input.manifest:q} --out {output.figure:q}"
        " --students {params.students:q} --experiment {params.experiment}"
        " --heatmaps {input.heatmaps:q} --table {output.csv:q} --threads {threads}"
        " 2>&1 | tee {log:q}"
