# One job ranks the gallery of one test set with one trained student.


rule evaluate:
    input:
        model=f"{run_folder('{train}', '{variant}', '{seed}')}/model.safetensors",
        manifest=f"data/{EXPERIMENT}/{{dataset}}/manifest.csv",
    output:
        f"{run_folder('{train}', '{variant}', '{seed}')}/eval/{{dataset}}.json",
    params:
        metric=settings.evaluation.metric,
        feature=settings.evaluation.feature,
        batch_size=settings.evaluation.batch_size,
        protocol=settings.evaluation.protocol,
        rerank="--rerank" if settings.evaluation.rerank else "--no-rerank",
        code=code_hash("pgfl.retrieval.stage"),
    log:
        f"logs/{run_folder('{train}', '{variant}', '{seed}')}/eval/{{dataset}}.log",
    conda:
        ENVIRONMENT
    threads: settings.resources.train_threads
    message:
        "Evaluating {wildcards.variant} of {wildcards.train}, seed {wildcards.seed},"
        " on {wildcards.dataset}"
    shell:
        "python -m pgfl evaluate {input.model:q} {input.manifest:q} --out {output:q}"
        " --metric {params.metric} --feature {params.feature}"
        " --batch-size {params.batch_size} --protocol {params.protocol} {params.rerank}"
        " --threads {threads} 2>&1 | tee {log:q}"
