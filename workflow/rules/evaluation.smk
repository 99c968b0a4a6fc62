# One job ranks the gallery of one test set with one trained model.


def evaluation_inputs(wildcards):
    """What a method's own evaluation reads: without a student, the whole network."""
    method = settings.recipe(wildcards.variant).settings
    run = run_folder(wildcards.train, wildcards.variant, wildcards.seed)
    files = {
        "model": f"{run}/model.safetensors",
        "manifest": f"data/{EXPERIMENT}/{wildcards.dataset}/manifest.csv",
        "images": f"data/{EXPERIMENT}/{wildcards.dataset}/images",
    }
    if not method.has_student:
        files["branches"] = f"{run}/branches.safetensors"
    if not method.has_student and method.needs_heatmaps_at_test:
        for split in ("query", "gallery"):
            files[split] = heatmaps_file(wildcards.dataset, split, reading_of(wildcards.variant))
    return files


def evaluation_code(variant):
    """The word for all code that a method's own evaluation runs."""
    recipe = settings.recipe(variant)
    if recipe.settings.has_student:
        return code_hash("pgfl.retrieval.stage", recipe.student_module)
    return code_hash("pgfl.retrieval.guided", recipe.module)


# What an evaluation is of is written into it, so that no path is read back.
SAYS_WHAT_IT_IS_OF = (
    " --train-set {wildcards.train:q} --dataset {wildcards.dataset:q}"
    " --variant {wildcards.variant:q} --method {params.method} --seed {wildcards.seed}"
)


rule evaluate:
    input:
        unpack(evaluation_inputs),
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
        method=lambda w: settings.recipe(w.variant).method,
        branches=lambda w, input: option("branches", input.get("branches")),
        query=lambda w, input: option("heatmaps-query", input.get("query")),
        gallery=lambda w, input: option("heatmaps-gallery", input.get("gallery")),
        own_heatmaps=lambda w: own_stamps(evaluation_inputs(w).values()),
        code=lambda w: evaluation_code(w.variant),
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
        " --queries {output.queries:q} {params.branches} {params.query} {params.gallery}"
        " --metric {params.metric} --feature {params.feature}"
        f"{SAYS_WHAT_IT_IS_OF}"
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
        method=lambda w: settings.recipe(w.variant).method,
        own_heatmaps=lambda w: own_stamps(
            heatmaps_file(w.dataset, split, reading_of(w.variant))
            for split in ("query", "gallery")
        ),
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
        f"{SAYS_WHAT_IT_IS_OF}"
        " --batch-size {params.batch_size} --protocol {params.protocol} {params.rerank}"
        " --threads {threads} 2>&1 | tee {log:q}"
