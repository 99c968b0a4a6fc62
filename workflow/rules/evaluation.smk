# One job ranks the gallery of one test set with one trained model.


rule evaluate:
    input:
        model=f"{run_folder('{train}', '{variant}', '{seed}')}/model.safetensors",
        manifest=f"data/{EXPERIMENT}/{{dataset}}/manifest.csv",
        images=f"data/{EXPERIMENT}/{{dataset}}/images",
    output:
        numbers=f"{run_folder('{train}', '{variant}', '{seed}')}/eval/{{dataset}}.json",
        # What the pictures of ranked lists are made of, so that they embed nothing again.
        queries=f"{run_folder('{train}', '{variant}', '{seed}')}/eval/{{dataset}}.queries.csv",
    params:
        metric=settings.evaluation.metric,
        feature=settings.evaluation.feature,
        batch_size=settings.evaluation.batch_size,
        protocol=settings.evaluation.protocol,
        rerank="--rerank" if settings.evaluation.rerank else "--no-rerank",
        code=lambda w: code_hash(
            "pgfl.retrieval.stage", settings.recipe(w.variant).student_module
        ),
    log:
        f"logs/{run_folder('{train}', '{variant}', '{seed}')}/eval/{{dataset}}.log",
    conda:
        ENVIRONMENT
    threads: beside_gpus(settings.resources.train_threads)
    resources:
        gpu=1,
        mem_mb=settings.resources.memory,
    message:
        "Evaluating {wildcards.variant} of {wildcards.train}, seed {wildcards.seed},"
        " on {wildcards.dataset}"
    shell:
        "python -m pgfl evaluate {input.model:q} {input.manifest:q} --out {output.numbers:q}"
        " --queries {output.queries:q} --metric {params.metric} --feature {params.feature}"
        " --batch-size {params.batch_size} --protocol {params.protocol} {params.rerank}"
        " --threads {threads} 2>&1 | tee {log:q}"


rule evaluate_with_pose:
    # The features that only training needs, matched with all the same (Table 8).
    input:
        model=f"{run_folder('{train}', '{variant}', '{seed}')}/model.safetensors",
        branches=f"{run_folder('{train}', '{variant}', '{seed}')}/branches.safetensors",
        manifest=f"data/{EXPERIMENT}/{{dataset}}/manifest.csv",
        images=f"data/{EXPERIMENT}/{{dataset}}/images",
        query=lambda w: heatmaps_file(w.dataset, "query", reading_of(w.variant)),
        gallery=lambda w: heatmaps_file(w.dataset, "gallery", reading_of(w.variant)),
    output:
        f"{run_folder('{train}', '{variant}', '{seed}')}/eval/{{dataset}}.{{feature}}.json",
    wildcard_constraints:
        feature="part|fused|foreground|enhanced",
    params:
        metric=settings.evaluation.metric,
        feature=settings.evaluation.feature,
        batch_size=settings.evaluation.batch_size,
        protocol=settings.evaluation.protocol,
        rerank="--rerank" if settings.evaluation.rerank else "--no-rerank",
        own_heatmaps=lambda w, input: own_stamps(input),
        code=lambda w: code_hash(
            "pgfl.retrieval.guided", settings.recipe(w.variant).module
        ),
    log:
        f"logs/{run_folder('{train}', '{variant}', '{seed}')}/eval/{{dataset}}.{{feature}}.log",
    conda:
        ENVIRONMENT
    threads: beside_gpus(settings.resources.train_threads)
    resources:
        gpu=1,
        mem_mb=settings.resources.memory,
    message:
        "Evaluating the {wildcards.feature} feature of {wildcards.variant} of {wildcards.train},"
        " seed {wildcards.seed}, on {wildcards.dataset}"
    shell:
        "python -m pgfl evaluate {input.model:q} {input.manifest:q} --out {output:q}"
        " --use {wildcards.feature} --branches {input.branches:q}"
        " --heatmaps-query {input.query:q} --heatmaps-gallery {input.gallery:q}"
        " --metric {params.metric} --feature {params.feature}"
        " --batch-size {params.batch_size} --protocol {params.protocol} {params.rerank}"
        " --threads {threads} 2>&1 | tee {log:q}"
