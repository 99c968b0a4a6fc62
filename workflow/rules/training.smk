# One job trains one variant on one data set with one seed.


rule train:
    input:
        unpack(lambda w: or_exit(HEATMAPS.training_inputs, w.variant, w.train)),
    output:
        model=f"{RUN}/model.safetensors",
        branches=f"{RUN}/branches.safetensors",
        history=f"{RUN}/history.csv",
        provenance=f"{RUN}/provenance.json",
    params:
        # Only what this variant reads: another temperature of Eq. 5 is nothing to the baseline.
        settings=lambda w: as_json(settings.recipe(w.variant).as_trained()),
        heatmaps=lambda w, input: option("heatmaps", input.get("heatmaps")),
        own_heatmaps=lambda w: HEATMAPS.own_stamps(
            HEATMAPS.training_inputs(w.variant, w.train).values()
        ),
        pretrained=lambda w, input: option("pretrained", input.get("pretrained")),
        # Snakemake deletes the outputs of a failed job; the resume state must outlive it.
        state=lambda w: f"cache/{EXPERIMENT}/state/{w.train}/{w.variant}/seed{w.seed}",
        code=lambda w: code_hash(
            "pgfl.training.stage",
            *settings.recipe(w.variant).code,
            without=settings.recipe(w.variant).idle_code,
        ),
    log:
        f"logs/{RUN}/train.log",
    conda:
        ENVIRONMENT
    threads: beside_gpus(settings.resources.train_threads, settings.resources.devices)
    resources:
        # Resources, not parameters: none of them retrains anything.
        gpu=settings.resources.devices,
        # A scheduler might deal the GPUs of one training out over two machines.
        nodes=1,
        mem_mb=settings.resources.train_memory * settings.resources.devices,
        workers=lambda w, threads: min(
            settings.resources.workers, max(1, threads // settings.resources.devices)
        ),
        devices=settings.resources.devices,
        tensorboard="--tensorboard" if settings.resources.tensorboard else "--no-tensorboard",
    message:
        "Training {wildcards.variant} on {wildcards.train}, seed {wildcards.seed}"
    shell:
        "python -m pgfl train {input.manifest:q} --model {output.model:q}"
        " --branches {output.branches:q} --history {output.history:q}"
        " --provenance {output.provenance:q} --state {params.state:q}"
        " {params.heatmaps} {params.pretrained} --seed {wildcards.seed}"
        " --settings {params.settings:q} --threads {threads} --workers {resources.workers}"
        " --devices {resources.devices} {resources.tensorboard} 2>&1 | tee {log:q}"
