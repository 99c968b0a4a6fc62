# Pictures of what became of single queries, and of the trainings: baseline beside PGFL-KD.

rule ranked_lists:
    input:
        queries=lambda w: all_paths(RESULT.queries(w.dataset)),
        manifest=f"data/{EXPERIMENT}/{{dataset}}/manifest.csv",
        images=f"data/{EXPERIMENT}/{{dataset}}/images",
    output:
        figure=report(
            f"{RESULTS}/ranked_lists/{{dataset}}.png",
            caption="../report/ranked_lists.rst",
            category="Queries",
            labels={"picture": "Ranked lists of {dataset}"},
        ),
        trace=f"{RESULTS}/ranked_lists/{{dataset}}.trace.json",
    params:
        queries=lambda w: as_json(RESULT.queries(w.dataset)),
        experiment=LABEL,
        code=code_hash("pgfl.reporting.more.ranked_lists"),
    log:
        f"logs/{RESULTS}/ranked_lists/{{dataset}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Drawing ranked lists of {wildcards.dataset}"
    shell:
        "python -m pgfl ranked-lists {input.manifest:q} --out {output.figure:q}"
        " --queries {params.queries:q} --experiment {params.experiment:q}"
        " --trace {output.trace:q} 2>&1 | tee {log:q}"


rule failures:
    input:
        queries=all_paths(RESULT.queries()),
        manifest=FEATURE_MANIFEST,
        images=FEATURE_IMAGES,
        heatmaps=HEATMAPS.file(FEATURE_TEST_SET, "query"),
    output:
        page=report(
            f"{RESULTS}/failures.html",
            caption="../report/failures.rst",
            category="Queries",
            labels={"picture": "Worst queries of Occluded-Duke"},
        ),
        trace=f"{RESULTS}/failures.trace.json",
    params:
        queries=as_json(RESULT.queries()),
        own_heatmaps=HEATMAPS.own_stamps([HEATMAPS.file(FEATURE_TEST_SET, "query")]),
        experiment=LABEL,
        code=code_hash("pgfl.reporting.more.failures"),
    log:
        f"logs/{RESULTS}/failures.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Writing the page of the worst queries"
    shell:
        "python -m pgfl failures {input.manifest:q} --out {output.page:q}"
        " --queries {params.queries:q} --heatmaps {input.heatmaps:q}"
        " --experiment {params.experiment:q}"
        " --trace {output.trace:q} 2>&1 | tee {log:q}"


rule visibility:
    input:
        queries=all_paths(RESULT.queries()),
        manifest=FEATURE_MANIFEST,
        heatmaps=HEATMAPS.file(FEATURE_TEST_SET, "query"),
    output:
        csv=f"{RESULTS}/visibility.csv",
        figure=report(
            f"{RESULTS}/visibility.png",
            caption="../report/visibility.rst",
            category="Queries",
            labels={"picture": "Accuracy by visible keypoints"},
        ),
        trace=f"{RESULTS}/visibility.trace.json",
    params:
        queries=as_json(RESULT.queries()),
        own_heatmaps=HEATMAPS.own_stamps([HEATMAPS.file(FEATURE_TEST_SET, "query")]),
        experiment=LABEL,
        code=code_hash("pgfl.reporting.more.visibility"),
    log:
        f"logs/{RESULTS}/visibility.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Drawing accuracy by visible keypoints"
    shell:
        "python -m pgfl visibility {input.manifest:q} --out {output.csv:q}"
        " --queries {params.queries:q} --heatmaps {input.heatmaps:q}"
        " --experiment {params.experiment:q}"
        " --figure {output.figure:q} --trace {output.trace:q} 2>&1 | tee {log:q}"


rule stress_test:
    input:
        models=lambda w: all_paths(RESULT.students(w.dataset)),
        manifest=f"data/{EXPERIMENT}/{{dataset}}/manifest.csv",
        images=f"data/{EXPERIMENT}/{{dataset}}/images",
    output:
        csv=f"{RESULTS}/stress_{{dataset}}.csv",
        figure=report(
            f"{RESULTS}/stress_{{dataset}}.png",
            caption="../report/stress.rst",
            category="Queries",
            labels={"picture": "Stress test on {dataset}"},
        ),
        trace=f"{RESULTS}/stress_{{dataset}}.trace.json",
    params:
        students=lambda w: as_json(RESULT.students(w.dataset)),
        shares=",".join(f"{share:g}" for share in settings.stress.shares),
        metric=settings.evaluation.metric,
        feature=settings.evaluation.feature,
        batch_size=settings.evaluation.batch_size,
        experiment=LABEL,
        code=code_hash("pgfl.reporting.more.stress_figure"),
    log:
        f"logs/{RESULTS}/stress_{{dataset}}.log",
    conda:
        ENVIRONMENT
    threads: beside_gpus(settings.resources.train_threads)
    resources:
        gpu=1,
        mem_mb=settings.resources.memory,
    message:
        "Covering the queries of {wildcards.dataset} step by step"
    shell:
        "python -m pgfl stress {input.manifest:q} --out {output.csv:q}"
        " --students {params.students:q} --shares {params.shares} --metric {params.metric}"
        " --feature {params.feature} --batch-size {params.batch_size}"
        " --experiment {params.experiment:q} --threads {threads}"
        " --figure {output.figure:q} --trace {output.trace:q} 2>&1 | tee {log:q}"


rule training_curves:
    input:
        all_paths(RESULT.curves()),
        all_paths(RESULT.other_curves()),
    output:
        figure=report(
            f"{RESULTS}/training_curves.png",
            caption="../report/training_curves.rst",
            category="Training",
            labels={"picture": "Loss terms on Occluded-Duke"},
        ),
        trace=f"{RESULTS}/training_curves.trace.json",
    params:
        histories=as_json(RESULT.curves()),
        others=as_json(RESULT.other_curves()),
        trained_on=settings.trained_on(FEATURE_TEST_SET),
        experiment=LABEL,
        code=code_hash("pgfl.reporting.more.training_curves"),
    log:
        f"logs/{RESULTS}/training_curves.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=LIGHT_MB,
    message:
        "Drawing training curves"
    shell:
        "python -m pgfl training-curves --out {output.figure:q}"
        " --histories {params.histories:q} --others {params.others:q}"
        " --trained-on {params.trained_on} --experiment {params.experiment:q}"
        " --trace {output.trace:q} 2>&1 | tee {log:q}"
