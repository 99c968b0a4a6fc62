# One job ranks the gallery of one test set with one trained model.


rule evaluate:
    input:
        unpack(lambda w: RESULT.evaluation_inputs(w.train, w.variant, w.seed, w.dataset)),
    output:
        numbers=f"{RUN}/eval/{{dataset}}.json",
        # What the pictures of ranked lists are made of, so that they embed nothing again.
        queries=f"{RUN}/eval/{{dataset}}.queries.csv",
    params:
        metric=settings.evaluation.metric,
        feature=settings.evaluation.feature,
        batch_size=settings.evaluation.batch_size,
        protocol=settings.evaluation.protocol,
        rerank="--rerank" if settings.evaluation.rerank else "--no-rerank",
        method=lambda w: settings.recipe(w.variant).method,
        more=lambda w, output: option("queries", output.queries),
        branches=lambda w, input: option("branches", input.get("branches")),
        query=lambda w, input: option("heatmaps-query", input.get("query")),
        gallery=lambda w, input: option("heatmaps-gallery", input.get("gallery")),
        own_heatmaps=lambda w: HEATMAPS.own_stamps(
            RESULT.evaluation_inputs(w.train, w.variant, w.seed, w.dataset).values()
        ),
        code=lambda w: evaluation_code(settings.recipe(w.variant)),
    log:
        f"logs/{RUN}/eval/{{dataset}}.log",
    conda:
        ENVIRONMENT
    threads: beside_gpus(settings.resources.train_threads)
    resources:
        gpu=1,
        mem_mb=settings.resources.memory,
    message:
        "Evaluating {wildcards.variant} of {wildcards.train}, seed {wildcards.seed},"
        " on {wildcards.dataset}"
    # What an evaluation is of is written into it, so that no path is read back.
    shell:
        "python -m pgfl evaluate {input.model:q} {input.manifest:q} --out {output.numbers:q}"
        " {params.more} {params.branches} {params.query} {params.gallery}"
        " --metric {params.metric} --feature {params.feature}"
        " --train-set {wildcards.train:q} --dataset {wildcards.dataset:q}"
        " --variant {wildcards.variant:q} --method {params.method} --seed {wildcards.seed}"
        " --batch-size {params.batch_size} --protocol {params.protocol} {params.rerank}"
        " --threads {threads} 2>&1 | tee {log:q}"


use rule evaluate as evaluate_with_pose with:
    # The features that only training needs, matched with all the same (Table 8).
    input:
        model=f"{RUN}/model.safetensors",
        branches=f"{RUN}/branches.safetensors",
        manifest=f"data/{EXPERIMENT}/{{dataset}}/manifest.csv",
        images=f"data/{EXPERIMENT}/{{dataset}}/images",
        query=lambda w: HEATMAPS.of_test(w.variant, w.dataset)["query"],
        gallery=lambda w: HEATMAPS.of_test(w.variant, w.dataset)["gallery"],
    output:
        numbers=f"{RUN}/eval/{{dataset}}.{{feature}}.json",
    wildcard_constraints:
        feature="part|fused|foreground|enhanced",
    params:
        more=lambda w: option("use", w.feature),
        own_heatmaps=lambda w: HEATMAPS.own_stamps(
            HEATMAPS.of_test(w.variant, w.dataset).values()
        ),
        code=lambda w: code_hash("pgfl.retrieval.guided", settings.recipe(w.variant).module),
    log:
        f"logs/{RUN}/eval/{{dataset}}.{{feature}}.log",
    message:
        "Evaluating the {wildcards.feature} feature of {wildcards.variant} of {wildcards.train},"
        " seed {wildcards.seed}, on {wildcards.dataset}"
