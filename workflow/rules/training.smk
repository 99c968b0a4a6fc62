# One job trains one variant on one data set with one seed.


def training_heatmaps(variant, train):
    """The maps that a variant is trained with, or None where no branch needs any."""
    recipe = settings.recipe(variant)
    if not recipe.settings.needs_heatmaps:
        return None
    if recipe.training.heatmaps != "true":
        return heatmaps_file(train, "train", reading_of(variant))
    if train not in JOINTS_OF:
        raise WorkflowError(
            f"variant {variant}: training.heatmaps: true needs drawn images, whose joints are "
            f"known; {train} has none"
        )
    return f"cache/{EXPERIMENT}/true_heatmaps/{train}/train.h5"


def train_inputs(wildcards):
    recipe = settings.recipe(wildcards.variant)
    or_exit(settings.check_batches, wildcards.variant, wildcards.train)
    files = {
        "manifest": f"data/{EXPERIMENT}/{wildcards.train}/manifest.csv",
        "images": f"data/{EXPERIMENT}/{wildcards.train}/images",
    }
    if heatmaps := training_heatmaps(wildcards.variant, wildcards.train):
        files["heatmaps"] = heatmaps
    if recipe.model.weights_file:
        files["pretrained"] = f"{WEIGHTS_FOLDER}/{recipe.model.backbone}.pth"
    return files


rule train:
    input:
        unpack(train_inputs),
    output:
        model=f"{run_folder('{train}', '{variant}', '{seed}')}/model.safetensors",
        branches=f"{run_folder('{train}', '{variant}', '{seed}')}/branches.safetensors",
        history=f"{run_folder('{train}', '{variant}', '{seed}')}/history.csv",
        provenance=f"{run_folder('{train}', '{variant}', '{seed}')}/provenance.json",
    params:
        # Only what this variant reads: another temperature of Eq. 5 is nothing to the baseline.
        settings=lambda w: as_json(settings.recipe(w.variant).as_trained().model_dump(mode="json")),
        heatmaps=lambda w, input: option("heatmaps", input.get("heatmaps")),
        own_heatmaps=lambda w: own_stamps(train_inputs(w).values()),
        pretrained=lambda w, input: option("pretrained", input.get("pretrained")),
        # Snakemake deletes the outputs of a failed job; the resume state must outlive it.
        state=lambda w: f"cache/{EXPERIMENT}/state/{w.train}/{w.variant}/seed{w.seed}",
        code=lambda w: code_hash(
            "pgfl.training.stage",
            settings.recipe(w.variant).module,
            without=settings.recipe(w.variant).idle_code,
        ),
    log:
        f"logs/{run_folder('{train}', '{variant}', '{seed}')}/train.log",
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
